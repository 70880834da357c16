import { AddTagsCommand, DeleteTagsCommand } from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import { useEffect, useState } from "react";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import { tagsOf } from "../aws/copies";
import { wording } from "../aws/errors";
import { useWords } from "../i18n";
import { type Pair, pairFaults } from "../model/draft";
import { Pairs } from "./form";

/** The tags of a job, to be read and changed. */
export function Tags({ arn }: { arn: string }) {
  const { t } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const { value: kept, error, loading, refresh } = usePoll(async () => {
    const found = await tagsOf(aws, arn);
    return found.map(({ Key, Value }) => ({ key: Key ?? "", value: Value ?? "" }));
  }, [aws, arn]);
  const [tags, setTags] = useState<Pair[]>([]);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (kept !== undefined) setTags(kept);
  }, [kept]);
  const [tried, setTried] = useState(false);
  const faults = pairFaults("tags", tags);
  const save = async () => {
    setTried(true);
    if (Object.keys(faults).length > 0) return;
    setBusy(true);
    try {
      const wanted = tags.filter((tag) => tag.key !== "");
      // As they are now: a refused attempt may have added some.
      const stored = (await tagsOf(aws, arn)).map(({ Key }) => Key ?? "");
      const gone = stored.filter((key) => wanted.every((tag) => tag.key !== key));
      // Whatever is refused, nothing is lost.
      if (wanted.length > 0) {
        const Tags = wanted.map(({ key, value }) => ({ Key: key, Value: value }));
        await aws.sagemaker.send(new AddTagsCommand({ ResourceArn: arn, Tags }));
      }
      if (gone.length > 0) await aws.sagemaker.send(new DeleteTagsCommand({ ResourceArn: arn, TagKeys: gone }));
      notices.done(t("job.tagsSaved"));
      refresh();
    } catch (failure) {
      notices.failed(failure);
    }
    setBusy(false);
  };
  return (
    <Container
      header={
        <Header variant="h2" actions={<Button loading={busy} disabled={loading} onClick={() => void save()}>{t("common.save")}</Button>}>
          {t("form.tags")}
        </Header>
      }
    >
      {error !== undefined && <Alert type="error">{wording(error)}</Alert>}
      {loading ? <StatusIndicator type="loading">{t("common.loading")}</StatusIndicator> : (
        <Pairs field="tags" items={tags} faults={tried ? faults : {}} add="form.addTag" none="form.noTags" onChange={setTags} />
      )}
    </Container>
  );
}
