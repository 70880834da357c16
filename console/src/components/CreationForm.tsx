import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Form from "@cloudscape-design/components/form";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type FormEvent, type ReactNode, useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useNotices } from "../app/notices";
import { useWords } from "../i18n";
import type { Code } from "../model/code";
import type { Faults } from "../model/draft";
import { CodeModal } from "./Code";

/** A form that creates a job: it says what is wrong once creating was tried, and leads to what was created. */
export function CreationForm(props: {
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
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [code, setCode] = useState(false);
  const shown = tried ? props.faults : {};
  const count = Object.keys(shown).length;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(props.faults).length > 0) return;
    setBusy(true);
    try {
      await props.create();
      notices.done(props.created);
      navigate(props.to);
    } catch (error) {
      notices.failed(error);
      setBusy(false);
    }
  };
  return (
    <>
      <form onSubmit={(event) => void submit(event)}>
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
            {props.children(shown)}
            {count > 0 && <Alert type="error">{t("form.faults", { count })}</Alert>}
          </SpaceBetween>
        </Form>
      </form>
      {code && <CodeModal code={props.code()} close={() => setCode(false)} />}
    </>
  );
}
