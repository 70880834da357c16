import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Modal from "@cloudscape-design/components/modal";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { useState } from "react";
import { useNotices } from "../app/notices";
import { useWords } from "../i18n";

/** Asks before something that cannot be undone. `act` says what was done; `done` follows it. */
export function Ask(props: {
  title: string;
  text: string;
  verb: string;
  act: () => Promise<string>;
  close: () => void;
  done?: () => void;
}) {
  const { t } = useWords();
  const notices = useNotices();
  const [busy, setBusy] = useState(false);
  const act = async () => {
    setBusy(true);
    try {
      notices.done(await props.act());
      props.close();
      props.done?.();
      return;
    } catch (error) {
      notices.failed(error);
    }
    props.close();
  };
  return (
    <Modal
      visible
      header={props.title}
      onDismiss={props.close}
      footer={
        <Box float="right">
          <SpaceBetween direction="horizontal" size="xs">
            <Button variant="link" onClick={props.close}>{t("common.cancel")}</Button>
            <Button variant="primary" loading={busy} onClick={() => void act()}>{props.verb}</Button>
          </SpaceBetween>
        </Box>
      }
    >
      {props.text}
    </Modal>
  );
}
