import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import { Component, type ReactNode } from "react";
import { wording } from "../aws/errors";
import { useWords } from "../i18n";

/** Says why a page cannot be shown, such as one whose program did not load. */
export class Boundary extends Component<{ children: ReactNode }, { error?: unknown }> {
  state: { error?: unknown } = {};

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  render() {
    return this.state.error === undefined ? this.props.children : <Broken error={this.state.error} />;
  }
}

function Broken({ error }: { error: unknown }) {
  const { t } = useWords();
  return (
    <Alert type="error" header={t("common.broken")} action={<Button onClick={() => location.reload()}>{t("common.reload")}</Button>}>
      {wording(error)}
    </Alert>
  );
}
