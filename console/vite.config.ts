import { defineConfig } from "vite";

export default defineConfig({
  base: "/console/",
  esbuild: { jsx: "automatic", legalComments: "none" },
  build: {
    outDir: "../src/phalanx/console/dist",
    emptyOutDir: true,
    target: "es2022",
    // Nothing is inlined: the Content-Security-Policy allows no data: fonts.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 4096,
    modulePreload: { polyfill: false },
    rollupOptions: {
      onwarn: (warning, report) => {
        // Cloudscape marks its modules for servers that render React; here is none.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") report(warning);
      },
    },
  },
});
