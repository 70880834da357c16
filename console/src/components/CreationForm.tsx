import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Form from "@cloudscape-design/components/form";
import Modal from "@cloudscape-design/components/modal";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useLeaving } from "../app/leaving";
import { useNotices } from "../app/notices";
import { useWords } from "../i18n";
import type { Code } from "../model/code";
import type { Faults } from "../model/draft";
import { CodeModal } from "./Code";
import { Tries } from "./Foldable";

/**
 * A form that creates a job: it says what is wrong once creating was tried, and leads to the first of it, or to what was created.
 * Whoever has changed it is asked before leaving it.
 */
export function CreationForm(props: {
  /** What has been entered: another object after every change. */
  entered: object;
  /** What is wrong with the form as it is; nothing is sent while there is any. */
  faults: Faults;
  create: () => Promise<unknown>;
  verb: string;
  /** What is said, and where it goes on, once it is created; where it goes when it is not to be. */
  created: string;
  to: string;
  back: string;
  code: () => Code[];
  /** The sections, given the faults to show. */
  children: (shown: Faults) => ReactNode;
}) {
  const { t } = useWords();
  const notices = useNotices();
  const [, navigate] = useHashLocation();
  const [tries, setTries] = useState(0);
  const [busy, setBusy] = useState(false);
  const [code, setCode] = useState(false);
  const first = useRef(props.entered);
  const leaving = useLeaving(props.entered !== first.current);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    // Later: by then the parts that have faults have opened.
    const timer = setTimeout(() => {
      const faulty = form.current?.querySelector<HTMLElement>("[aria-invalid=true]");
      faulty?.focus({ preventScroll: true });
      faulty?.scrollIntoView({ block: "center" });
    });
    return () => clearTimeout(timer);
  }, [tries]);
  const shown = tries > 0 ? props.faults : {};
  const count = Object.keys(shown).length;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setTries(tries + 1);
    if (Object.keys(props.faults).length > 0) return;
    setBusy(true);
    try {
      await props.create();
      notices.done(props.created);
      leaving.leave(props.to);
    } catch (error) {
      notices.failed(error);
      setBusy(false);
    }
  };
  return (
    <>
      <form ref={form} onSubmit={(event) => void submit(event)}>
        <Form
          actions={
            <SpaceBetween direction="horizontal" size="xs">
              <Button formAction="none" onClick={() => setCode(true)}>{t("code.view")}</Button>
              <Button formAction="none" variant="link" onClick={() => navigate(props.back)}>{t("common.cancel")}</Button>
              <Button formAction="submit" variant="primary" loading={busy}>{props.verb}</Button>
            </SpaceBetween>
          }
        >
          <SpaceBetween size="l">
            <Tries value={tries}>{props.children(shown)}</Tries>
            {count > 0 && <Alert type="error">{t("form.faults", { count })}</Alert>}
          </SpaceBetween>
        </Form>
      </form>
      {code && <CodeModal code={props.code()} close={() => setCode(false)} />}
      {leaving.to !== undefined && (
        <Modal
          visible
          header={t("form.leaveTitle")}
          onDismiss={leaving.stay}
          footer={
            <Box float="right">
              <SpaceBetween direction="horizontal" size="xs">
                <Button variant="link" onClick={leaving.stay}>{t("common.cancel")}</Button>
                <Button variant="primary" onClick={() => leaving.leave(leaving.to!)}>{t("form.leave")}</Button>
              </SpaceBetween>
            </Box>
          }
        >
          {t("form.leaveText")}
        </Modal>
      )}
    </>
  );
}
