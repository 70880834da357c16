import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Form from "@cloudscape-design/components/form";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type FormEvent, useState } from "react";
import { isSignedOut, wording } from "../aws/errors";
import { useTitle } from "../components/Page";
import { useWords } from "../i18n";
import { useAccess } from "./session";

/** Sign-in with an access key, which the service is asked about at once. */
export function SignIn() {
  const { t } = useWords();
  const { settings, signIn, refusal } = useAccess();
  useTitle(t("signIn.title"));
  const [accessKeyId, setAccessKeyId] = useState("");
  const [secretAccessKey, setSecret] = useState("");
  const [sessionToken, setSessionToken] = useState("");
  const [region, setRegion] = useState(settings.region);
  const [failure, setFailure] = useState(refusal === undefined ? undefined : t("signIn.again", { reason: wording(refusal) }));
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (!accessKeyId || !secretAccessKey || !region) {
      setFailure(t("signIn.incomplete"));
      return;
    }
    setBusy(true);
    try {
      await signIn({
        accessKeyId: accessKeyId.trim(),
        secretAccessKey: secretAccessKey.trim(),
        sessionToken: sessionToken.trim() || undefined,
        region: region.trim(),
      });
    } catch (error) {
      const refused = isSignedOut(error) || (error instanceof Error && error.name === "SignatureDoesNotMatch");
      setFailure(refused ? t("signIn.refused", { reason: wording(error) }) : wording(error));
      setBusy(false);
    }
  };
  return (
    <main className="sign-in">
      <form onSubmit={(event) => void submit(event)}>
        <Form actions={<Button variant="primary" formAction="submit" loading={busy}>{t("signIn.submit")}</Button>}>
          <Container header={<Header variant="h1" description={t("signIn.description")}>{t("signIn.title")}</Header>}>
            <SpaceBetween size="l">
              {failure !== undefined && <Alert type="error">{failure}</Alert>}
              <FormField label={t("signIn.accessKeyId")}>
                <Input value={accessKeyId} autoComplete="username" spellcheck={false} autoFocus
                  onChange={({ detail }) => setAccessKeyId(detail.value)} />
              </FormField>
              <FormField label={t("signIn.secret")}>
                <Input value={secretAccessKey} type="password" autoComplete="current-password"
                  onChange={({ detail }) => setSecret(detail.value)} />
              </FormField>
              <FormField label={<>{t("signIn.token")} <i>– {t("form.optional")}</i></>} constraintText={t("signIn.tokenHint")}>
                <Input value={sessionToken} type="password" autoComplete={false} onChange={({ detail }) => setSessionToken(detail.value)} />
              </FormField>
              <FormField label={t("signIn.region")}>
                <Input value={region} spellcheck={false} onChange={({ detail }) => setRegion(detail.value)} />
              </FormField>
              <Box variant="small">{t("signIn.where")}</Box>
            </SpaceBetween>
          </Container>
        </Form>
      </form>
    </main>
  );
}
