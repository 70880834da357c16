/** The parts of job forms. Each section shows some fields of a draft and changes them through `set`. */
import AttributeEditor from "@cloudscape-design/components/attribute-editor";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Checkbox from "@cloudscape-design/components/checkbox";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Multiselect from "@cloudscape-design/components/multiselect";
import RadioGroup from "@cloudscape-design/components/radio-group";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Textarea from "@cloudscape-design/components/textarea";
import { DescribeAlgorithmCommand, paginateListAlgorithms, TrainingInstanceType } from "@aws-sdk/client-sagemaker";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import { wording } from "../aws/errors";
import { useWords, type Key } from "../i18n";
import { type Algorithm, ALGORITHMS, algorithmResource, type Hyperparameter, range } from "../model/algorithms";
import {
  algorithmIn,
  CHANNEL,
  DATA_TYPES,
  type Draft,
  INPUT_MODES,
  type Fault,
  type Faults,
  type InstanceGroup,
  type Pair,
  withAlgorithm,
} from "../model/draft";
import { Foldable } from "./Foldable";

export interface SectionProps {
  draft: Draft;
  set: (change: Partial<Draft>) => void;
  faults: Faults;
}

/** Those that the service knows: none with Trainium, and none whose data sheet is not public. */
const INSTANCE_TYPES = Object.values(TrainingInstanceType).filter((type) => !/^ml\.(trn|g7|p6e|p6-b300)/.test(type));

/** Whether a fault is in a part of the form. */
const within = (faults: Faults, part: string) => Object.keys(faults).some((field) => field.startsWith(part));

export function useFault() {
  const { t } = useWords();
  return (fault: Fault | undefined) => fault && t(fault.key, fault.values);
}

export function TextField(props: {
  label: Key;
  hint?: Key;
  optional?: boolean;
  value: string;
  fault?: Fault;
  numeric?: boolean;
  placeholder?: string;
  onChange: (value: string) => void;
}) {
  const { t } = useWords();
  const fault = useFault();
  return (
    <FormField
      label={props.optional ? <>{t(props.label)} <i>– {t("form.optional")}</i></> : t(props.label)}
      constraintText={props.hint && t(props.hint)}
      errorText={fault(props.fault)}
    >
      <Input
        value={props.value}
        spellcheck={false}
        inputMode={props.numeric ? "numeric" : "text"}
        placeholder={props.placeholder}
        onChange={({ detail }) => props.onChange(detail.value)}
      />
    </FormField>
  );
}

export function JobSettings({ draft, set, faults, name, children }: SectionProps & { name: Key; children?: React.ReactNode }) {
  const { t } = useWords();
  return (
    <Container header={<Header variant="h2">{t("form.jobSettings")}</Header>}>
      <SpaceBetween size="l">
        <TextField label={name} hint="form.nameHint" value={draft.name} fault={faults.name} onChange={(value) => set({ name: value })} />
        <TextField label="form.role" hint="form.roleHint" value={draft.role} fault={faults.role}
          onChange={(role) => set({ role })} />
        <FormField label={t("form.algorithmSource")}>
          <RadioGroup
            value={draft.source}
            onChange={({ detail }) => {
              const source = detail.value as Draft["source"];
              set(withAlgorithm(source, source === "builtin" ? ALGORITHMS[0] : undefined));
            }}
            items={[
              { value: "builtin", label: t("form.builtin") },
              { value: "resource", label: t("form.resource"), description: t("form.resourceHint") },
              { value: "own", label: t("form.ownImage"), description: t("form.ownImageHint") },
            ]}
          />
        </FormField>
        {draft.source === "own" && (
          <TextField label="form.image" value={draft.image} fault={faults.image} onChange={(image) => set({ image })} />
        )}
        {draft.source === "resource" && <Resource draft={draft} set={set} faults={faults} />}
        {draft.source === "builtin" && (
          <FormField label={t("form.algorithm")}>
            <Select
              selectedOption={{ value: draft.algorithm, label: algorithmIn(draft)?.name }}
              options={ALGORITHMS.map(({ id, name: label }) => ({ value: id, label }))}
              onChange={({ detail }) => set(withAlgorithm("builtin", ALGORITHMS.find(({ id }) => id === detail.selectedOption.value)))}
            />
          </FormField>
        )}
        {children}
        <Metrics draft={draft} set={set} faults={faults} />
      </SpaceBetween>
    </Container>
  );
}

/** An algorithm resource of the account; what it says of itself is looked up when it is chosen. */
function Resource({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  const fault = useFault();
  const aws = useAws();
  const notices = useNotices();
  const { value: found = [], error, loading } = usePoll(async () => {
    const all: { value: string; label: string; description?: string }[] = [];
    for await (const page of paginateListAlgorithms({ client: aws.sagemaker }, {})) {
      for (const each of page.AlgorithmSummaryList ?? []) {
        all.push({ value: each.AlgorithmArn!, label: each.AlgorithmName!, description: each.AlgorithmDescription });
      }
    }
    return all;
  }, [aws]);
  const choose = async (AlgorithmName: string) => {
    try {
      set(withAlgorithm("resource", algorithmResource(await aws.sagemaker.send(new DescribeAlgorithmCommand({ AlgorithmName })))));
    } catch (failure) {
      notices.failed(failure);
    }
  };
  return (
    <FormField label={t("form.algorithm")} errorText={error === undefined ? fault(faults.image) : wording(error)}>
      <Select
        selectedOption={draft.resource === undefined ? null : { value: draft.resource.id, label: draft.resource.name }}
        placeholder={t("form.chooseResource")}
        options={found}
        filteringType="auto"
        empty={t("form.noResources")}
        statusType={loading ? "loading" : "finished"}
        onChange={({ detail }) => void choose(detail.selectedOption.value!)}
      />
    </FormField>
  );
}

/** What runs in the container instead of what its image says; of a built-in algorithm nothing else does. */
export function EntryPoint({ draft, set }: SectionProps) {
  const { t } = useWords();
  if (draft.source === "builtin") return null;
  return (
    <ColumnLayout columns={2}>
      <FormField label={<>{t("form.entrypoint")} <i>– {t("form.optional")}</i></>} constraintText={t("form.aWordALine")}>
        <Textarea value={draft.entrypoint} rows={2} spellcheck={false} onChange={({ detail }) => set({ entrypoint: detail.value })} />
      </FormField>
      <FormField label={<>{t("form.arguments")} <i>– {t("form.optional")}</i></>} constraintText={t("form.aWordALine")}>
        <Textarea value={draft.arguments} rows={2} spellcheck={false} onChange={({ detail }) => set({ arguments: detail.value })} />
      </FormField>
    </ColumnLayout>
  );
}

function Metrics({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  const fault = useFault();
  return (
    <Foldable faulty={within(faults, "metrics.")} headerText={t("form.metrics")} headerDescription={t("form.metricsHint")}
      defaultExpanded={draft.metrics.length > 0}>
      <SpaceBetween size="l">
        <Checkbox checked={draft.timeSeries} description={t("form.timeSeriesHint")} onChange={({ detail }) => set({ timeSeries: detail.checked })}>
          {t("form.timeSeries")}
        </Checkbox>
        <AttributeEditor
          items={draft.metrics}
          addButtonText={t("form.addMetric")}
          removeButtonText={t("common.remove")}
          empty={t("form.noMetrics")}
          onAddButtonClick={() => set({ metrics: [...draft.metrics, { name: "", regex: "" }] })}
          onRemoveButtonClick={({ detail }) => set({ metrics: draft.metrics.filter((_, index) => index !== detail.itemIndex) })}
          definition={[
            {
              label: t("form.metricName"),
              control: (item, index) => (
                <Input value={item.name} onChange={({ detail }) => set({ metrics: changed(draft.metrics, index, { name: detail.value }) })} />
              ),
              errorText: (_, index) => fault(faults[`metrics.${index}`]),
            },
            {
              label: t("form.metricRegex"),
              control: (item, index) => (
                <Input value={item.regex} spellcheck={false}
                  onChange={({ detail }) => set({ metrics: changed(draft.metrics, index, { regex: detail.value }) })} />
              ),
            },
          ]}
        />
      </SpaceBetween>
    </Foldable>
  );
}

export function Resources({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  return (
    <Container header={<Header variant="h2">{t("form.resources")}</Header>}>
      <SpaceBetween size="l">
        <Checkbox
          checked={draft.instanceGroups.length > 0}
          description={t("form.instanceGroupsHint")}
          onChange={({ detail }) =>
            set({
              instanceGroups: detail.checked ? [{ name: "group-1", type: draft.instanceType, count: draft.instanceCount }] : [],
            })
          }
        >
          {t("form.instanceGroups")}
        </Checkbox>
        {draft.instanceGroups.length > 0 && (
          <InstanceGroups groups={draft.instanceGroups} faults={faults} set={(instanceGroups) => set({ instanceGroups })} />
        )}
        <ColumnLayout columns={2}>
          {draft.instanceGroups.length === 0 && (
            <FormField label={t("form.instanceType")} constraintText={t("form.instanceTypeHint")}>
              <InstanceType value={draft.instanceType} onChange={(instanceType) => set({ instanceType })} />
            </FormField>
          )}
          {draft.instanceGroups.length === 0 && (
            <TextField label="form.instanceCount" numeric value={draft.instanceCount} fault={faults.instanceCount}
              onChange={(instanceCount) => set({ instanceCount })} />
          )}
          <TextField label="form.volume" hint="form.volumeHint" numeric value={draft.volume} fault={faults.volume}
            onChange={(volume) => set({ volume })} />
          <TextField label="form.volumeKmsKey" hint="form.volumeKmsKeyHint" optional value={draft.volumeKmsKey}
            onChange={(volumeKmsKey) => set({ volumeKmsKey })} />
          <TextField label="form.maxRuntime" numeric value={draft.maxRuntime} fault={faults.maxRuntime}
            onChange={(maxRuntime) => set({ maxRuntime })} />
          <TextField label="form.maxPending" hint="form.maxPendingHint" optional numeric value={draft.maxPending} fault={faults.maxPending}
            onChange={(maxPending) => set({ maxPending })} />
          <TextField label="form.retries" hint="form.retriesHint" optional numeric value={draft.retries} fault={faults.retries}
            onChange={(retries) => set({ retries })} />
          <TextField label="form.keepAlive" hint="form.keepAliveHint" optional numeric value={draft.keepAlive} fault={faults.keepAlive}
            onChange={(keepAlive) => set({ keepAlive })} />
        </ColumnLayout>
        <Checkbox checked={draft.spot} description={t("form.spotHint")} onChange={({ detail }) => set({ spot: detail.checked })}>
          {t("form.spot")}
        </Checkbox>
        {draft.spot && (
          <TextField label="form.maxWait" hint="form.maxWaitHint" numeric value={draft.maxWait} fault={faults.maxWait}
            onChange={(maxWait) => set({ maxWait })} />
        )}
      </SpaceBetween>
    </Container>
  );
}

function InstanceType({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  return (
    <Select
      selectedOption={{ value, label: value }}
      options={INSTANCE_TYPES.map((type) => ({ value: type, label: type }))}
      filteringType="auto"
      virtualScroll
      onChange={({ detail }) => onChange(detail.selectedOption.value!)}
    />
  );
}

/** Most instance groups of a job. */
const MOST_INSTANCE_GROUPS = 5;

/** A cluster of instances of several types. */
function InstanceGroups(props: { groups: InstanceGroup[]; faults: Faults; set: (groups: InstanceGroup[]) => void }) {
  const { t } = useWords();
  const fault = useFault();
  const { groups, set } = props;
  return (
    <AttributeEditor
      items={groups}
      addButtonText={t("form.addInstanceGroup")}
      disableAddButton={groups.length >= MOST_INSTANCE_GROUPS}
      removeButtonText={t("common.remove")}
      onAddButtonClick={() => set([...groups, { name: `group-${groups.length + 1}`, type: groups[0]!.type, count: "1" }])}
      onRemoveButtonClick={({ detail }) => set(groups.filter((_, index) => index !== detail.itemIndex))}
      definition={[
        {
          label: t("form.instanceGroup"),
          control: (group, index) => (
            <Input value={group.name} spellcheck={false} onChange={({ detail }) => set(changed(groups, index, { name: detail.value }))} />
          ),
          errorText: (_, index) => fault(props.faults[`instanceGroups.${index}`]),
        },
        {
          label: t("form.instanceType"),
          control: (group, index) => <InstanceType value={group.type} onChange={(type) => set(changed(groups, index, { type }))} />,
        },
        {
          label: t("form.instanceCount"),
          control: (group, index) => (
            <Input value={group.count} inputMode="numeric" onChange={({ detail }) => set(changed(groups, index, { count: detail.value }))} />
          ),
        },
      ]}
    />
  );
}

export function Hyperparameters({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  const algorithm: Algorithm | undefined = algorithmIn(draft);
  const field = (parameter: Hyperparameter) => (
    <HyperparameterField
      key={parameter.name}
      parameter={parameter}
      value={draft.hyperparameters[parameter.name] ?? ""}
      fault={faults[`hyperparameters.${parameter.name}`]}
      onChange={(value) => set({ hyperparameters: { ...draft.hyperparameters, [parameter.name]: value } })}
    />
  );
  const set_ = (parameter: Hyperparameter) => (draft.hyperparameters[parameter.name] ?? "") !== "";
  const rest = algorithm?.hyperparameters.filter((parameter) => !parameter.common) ?? [];
  return (
    <Container header={<Header variant="h2" description={t("form.hyperparametersHint")}>{t("form.hyperparameters")}</Header>}>
      <SpaceBetween size="l">
        {algorithm !== undefined && (
          <SpaceBetween size="l">
            <ColumnLayout columns={3}>{algorithm.hyperparameters.filter((parameter) => parameter.common).map(field)}</ColumnLayout>
            {rest.length > 0 && (
              <Foldable faulty={rest.some(({ name }) => `hyperparameters.${name}` in faults)}
                headerText={t("form.moreHyperparameters", { count: rest.length })} defaultExpanded={rest.some(set_)}>
                <ColumnLayout columns={3}>{rest.map(field)}</ColumnLayout>
              </Foldable>
            )}
          </SpaceBetween>
        )}
        {(algorithm === undefined || algorithm.hyperparameters.length === 0 || draft.others.length > 0) && (
          <Pairs field="others" items={draft.others} faults={faults} add="form.addHyperparameter" none="form.noHyperparameters"
            onChange={(others) => set({ others })} />
        )}
      </SpaceBetween>
    </Container>
  );
}

function HyperparameterField(props: { parameter: Hyperparameter; value: string; fault?: Fault; onChange: (value: string) => void }) {
  const { t } = useWords();
  const fault = useFault();
  const { parameter, value, onChange } = props;
  const span = range(parameter);
  const hints = [
    span === undefined ? undefined : t(parameter.kind === "Integer" ? "form.wholeIn" : "form.numberIn", { range: span }),
    parameter.words === undefined ? undefined : t("form.orWords", { words: parameter.words.join(", ") }),
    parameter.default === undefined ? undefined : t("form.default", { value: parameter.default }),
  ];
  return (
    <FormField
      label={parameter.required ? parameter.name : <>{parameter.name} <i>– {t("form.optional")}</i></>}
      constraintText={hints.filter((hint) => hint !== undefined).join(" · ") || undefined}
      errorText={fault(props.fault)}
    >
      {parameter.kind === "Categorical" ? (
        <Select
          selectedOption={value === "" ? null : { value, label: value }}
          placeholder={t("form.notSet")}
          options={[{ value: "", label: t("form.notSet") }, ...parameter.choices!.map((choice) => ({ value: choice, label: choice }))]}
          onChange={({ detail }) => onChange(detail.selectedOption.value!)}
        />
      ) : (
        <Input value={value} spellcheck={false} inputMode={parameter.kind === "FreeText" || parameter.words ? "text" : "decimal"}
          onChange={({ detail }) => onChange(detail.value)} />
      )}
    </FormField>
  );
}

export function InputData({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  const change = (index: number, part: Partial<Draft["channels"][number]>) =>
    set({ channels: changed(draft.channels, index, part) });
  const names = draft.channels.map((channel) => channel.name);
  const next = { ...CHANNEL, name: names.includes("train") ? "validation" : "train" };
  return (
    <Container
      header={
        <Header variant="h2" actions={<Button formAction="none" onClick={() => set({ channels: [...draft.channels, next] })}>{t("form.addChannel")}</Button>}>
          {t("form.input")}
        </Header>
      }
    >
      <SpaceBetween size="l">
        {draft.channels.length === 0 && <Box color="text-body-secondary">{t("form.noChannels")}</Box>}
        {draft.channels.map((channel, index) => (
          <Foldable
            key={index}
            faulty={within(faults, `channels.${index}.`)}
            variant="stacked"
            defaultExpanded
            headerText={t("form.channel", { name: channel.name })}
            headerActions={
              <Button formAction="none" ariaLabel={t("form.removeChannel", { name: channel.name })}
                onClick={() => set({ channels: draft.channels.filter((_, other) => other !== index) })}>
                {t("common.remove")}
              </Button>
            }
          >
            <SpaceBetween size="l">
              <ColumnLayout columns={2}>
                <TextField label="form.channelName" value={channel.name} fault={faults[`channels.${index}.name`]}
                  onChange={(name) => change(index, { name })} />
                <TextField label="form.s3Location" placeholder="s3://bucket/path/" value={channel.uri}
                  fault={faults[`channels.${index}.uri`]} onChange={(uri) => change(index, { uri })} />
              </ColumnLayout>
              <ColumnLayout columns={4}>
                <Choice label="form.dataType" value={channel.dataType} choices={[...DATA_TYPES]}
                  onChange={(dataType) => change(index, { dataType })} />
                <Choice label="form.distribution" value={channel.distribution} choices={["FullyReplicated", "ShardedByS3Key"]}
                  onChange={(distribution) => change(index, { distribution })} />
                <TextField label="form.contentType" optional value={channel.contentType}
                  onChange={(contentType) => change(index, { contentType })} />
                <Choice label="form.compression" value={channel.compression} choices={["None", "Gzip"]}
                  onChange={(compression) => change(index, { compression })} />
                <Choice label="form.inputMode" value={channel.mode} choices={[...INPUT_MODES]} onChange={(mode) => change(index, { mode })} />
                {channel.mode === "Pipe" && (
                  <Choice label="form.wrapper" value={channel.wrapper} choices={["None", "RecordIO"]}
                    onChange={(wrapper) => change(index, { wrapper })} />
                )}
                {channel.mode !== "FastFile" && (
                  <TextField label="form.shuffle" optional numeric value={channel.seed} fault={faults[`channels.${index}.seed`]}
                    onChange={(seed) => change(index, { seed })} />
                )}
                {channel.dataType === "AugmentedManifestFile" && (
                  <TextField label="form.attributes" hint="form.attributesHint" value={channel.attributes}
                    fault={faults[`channels.${index}.attributes`]} onChange={(attributes) => change(index, { attributes })} />
                )}
                {draft.instanceGroups.length > 0 && (
                  <FormField label={t("form.channelGroups")} constraintText={t("form.channelGroupsHint")}>
                    <Multiselect
                      selectedOptions={channel.instanceGroups.map((value) => ({ value, label: value }))}
                      options={draft.instanceGroups.map(({ name }) => ({ value: name, label: name }))}
                      placeholder={t("form.allInstanceGroups")}
                      onChange={({ detail }) => change(index, { instanceGroups: detail.selectedOptions.map((option) => option.value!) })}
                    />
                  </FormField>
                )}
              </ColumnLayout>
            </SpaceBetween>
          </Foldable>
        ))}
      </SpaceBetween>
    </Container>
  );
}

export function Output({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  return (
    <Container header={<Header variant="h2">{t("form.outputData")}</Header>}>
      <ColumnLayout columns={2}>
        <TextField label="form.outputPath" hint="form.outputHint" value={draft.output} fault={faults.output}
          onChange={(output) => set({ output })} />
        <Choice label="form.outputCompression" value={draft.outputCompression} choices={["GZIP", "NONE"]}
          onChange={(outputCompression) => set({ outputCompression })} />
        <TextField label="form.checkpoint" hint="form.checkpointHint" optional value={draft.checkpoint} fault={faults.checkpoint}
          onChange={(checkpoint) => set({ checkpoint })} />
        <TextField label="form.kmsKey" hint="form.kmsKeyHint" optional value={draft.kmsKey} onChange={(kmsKey) => set({ kmsKey })} />
      </ColumnLayout>
    </Container>
  );
}

export function EnvironmentAndTags({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  return (
    <SpaceBetween size="l">
      <Container header={<Header variant="h2">{t("form.environment")} <i>– {t("form.optional")}</i></Header>}>
        <Pairs field="environment" items={draft.environment} faults={faults} add="form.addVariable" none="form.noVariables"
          onChange={(environment) => set({ environment })} />
      </Container>
      <Container header={<Header variant="h2">{t("form.tags")} <i>– {t("form.optional")}</i></Header>}>
        <Pairs field="tags" items={draft.tags} faults={faults} add="form.addTag" none="form.noTags" onChange={(tags) => set({ tags })} />
      </Container>
    </SpaceBetween>
  );
}

/** The experiment that a training job belongs to. */
export function Experiment({ draft, set }: SectionProps) {
  const { t } = useWords();
  const given = [draft.experiment, draft.trial, draft.component, draft.run].some((text) => text !== "");
  return (
    <ExpandableSection variant="container" defaultExpanded={given}
      headerText={<>{t("form.experiment")} <i>– {t("form.optional")}</i></>} headerDescription={t("form.experimentHint")}>
      <ColumnLayout columns={2}>
        <TextField label="form.experimentName" optional value={draft.experiment} onChange={(experiment) => set({ experiment })} />
        <TextField label="form.trial" hint="form.trialHint" optional value={draft.trial} onChange={(trial) => set({ trial })} />
        <TextField label="form.component" optional value={draft.component} onChange={(component) => set({ component })} />
        <TextField label="form.run" optional value={draft.run} onChange={(run) => set({ run })} />
      </ColumnLayout>
    </ExpandableSection>
  );
}

function Choice<Value extends string>(props: { label: Key; value: Value; choices: Value[]; onChange: (value: Value) => void }) {
  const { t } = useWords();
  return (
    <FormField label={t(props.label)}>
      <Select
        selectedOption={{ value: props.value, label: props.value }}
        options={props.choices.map((value) => ({ value, label: value }))}
        onChange={({ detail }) => props.onChange(detail.selectedOption.value as Value)}
      />
    </FormField>
  );
}

/** Keys and values that may be added to and taken away; `faults` has those of the list under `field`. */
export function Pairs(props: { field: string; items: Pair[]; faults: Faults; add: Key; none: Key; onChange: (items: Pair[]) => void }) {
  const { t } = useWords();
  const fault = useFault();
  const { items, onChange } = props;
  return (
    <AttributeEditor
      items={items}
      addButtonText={t(props.add)}
      removeButtonText={t("common.remove")}
      empty={t(props.none)}
      onAddButtonClick={() => onChange([...items, { key: "", value: "" }])}
      onRemoveButtonClick={({ detail }) => onChange(items.filter((_, index) => index !== detail.itemIndex))}
      definition={[
        {
          label: t("form.key"),
          control: (item, index) => (
            <Input value={item.key} spellcheck={false} onChange={({ detail }) => onChange(changed(items, index, { key: detail.value }))} />
          ),
          errorText: (_, index) => fault(props.faults[`${props.field}.${index}`]),
        },
        {
          label: t("form.value"),
          control: (item, index) => (
            <Input value={item.value} spellcheck={false} onChange={({ detail }) => onChange(changed(items, index, { value: detail.value }))} />
          ),
        },
      ]}
    />
  );
}

export function changed<Item>(items: readonly Item[], index: number, part: Partial<Item>): Item[] {
  return items.map((item, other) => (other === index ? { ...item, ...part } : item));
}
