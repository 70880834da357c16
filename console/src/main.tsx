import "@cloudscape-design/global-styles/index.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { PreferencesProvider } from "./app/preferences";
import { SessionProvider } from "./app/session";
import "./console.css";

const settings = await (await fetch("settings.json")).json();

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <PreferencesProvider>
      <SessionProvider settings={settings}>
        <App />
      </SessionProvider>
    </PreferencesProvider>
  </StrictMode>,
);
