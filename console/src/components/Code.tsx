import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import CopyToClipboard from "@cloudscape-design/components/copy-to-clipboard";
import Modal from "@cloudscape-design/components/modal";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Tabs from "@cloudscape-design/components/tabs";
import { useWords } from "../i18n";
import type { Code } from "../model/code";

/** The same request as code that can be copied. */
export function CodeModal({ code, close }: { code: Code[]; close: () => void }) {
  const { t } = useWords();
  return (
    <Modal
      visible
      size="large"
      header={t("code.title")}
      onDismiss={close}
      footer={<Box float="right"><Button variant="primary" onClick={close}>{t("common.close")}</Button></Box>}
    >
      <SpaceBetween size="m">
        <Box variant="p">{t("code.hint")}</Box>
        <Tabs
          ariaLabel={t("code.title")}
          tabs={code.map(({ title, text }) => ({
            id: title,
            label: title,
            content: (
              <SpaceBetween size="s">
                <CopyToClipboard copyButtonText={t("common.copy")} copySuccessText={t("common.copied")}
                  copyErrorText={t("common.notCopied")} textToCopy={text} />
                <pre className="code" tabIndex={0} aria-label={title}>{text}</pre>
              </SpaceBetween>
            ),
          }))}
        />
      </SpaceBetween>
    </Modal>
  );
}
