import { CreateHyperParameterTuningJobCommand } from "@aws-sdk/client-sagemaker";
import Button from "@cloudscape-design/components/button";
import Checkbox from "@cloudscape-design/components/checkbox";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Grid from "@cloudscape-design/components/grid";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { useState } from "react";
import { useAws, useIdentity } from "../app/session";
import { CreationForm } from "../components/CreationForm";
import {
  changed,
  EnvironmentAndTags,
  Hyperparameters,
  InputData,
  JobSettings,
  Output,
  Resources,
  TextField,
  useFault,
} from "../components/form";
import { Network } from "../components/Network";
import { Page } from "../components/Page";
import { useWords } from "../i18n";
import { tuningJobCode } from "../model/code";
import { builtin, CHANNEL, type Draft, emptyDraft, type Faults } from "../model/draft";
import { emptyTuning, proposed, type Range, SCALINGS, STRATEGIES, toTuningRequest, type Tuning, tuningFaults } from "../model/tuning";

export default function CreateTuningJob() {
  const { t } = useWords();
  const aws = useAws();
  const { account } = useIdentity();
  const [draft, setDraft] = useState<Draft>(() => ({
    ...emptyDraft(account, aws.region),
    channels: [CHANNEL, { ...CHANNEL, name: "validation", distribution: "FullyReplicated" }],
  }));
  const [tuning, setTuning] = useState<Tuning>(() => {
    const eta = builtin(draft)?.hyperparameters.find(({ name }) => name === "eta");
    return { ...emptyTuning(), ranges: [proposed("eta", eta)] };
  });
  return (
    <Page title={t("tuning.create")} trail={[[t("tunings.title"), "#/tuning"]]} description={t("tunings.description")}>
      <CreationForm
        faults={tuningFaults(draft, tuning)}
        create={() => aws.sagemaker.send(new CreateHyperParameterTuningJobCommand(toTuningRequest(draft, tuning)))}
        verb={t("tuning.create")}
        created={t("tuning.created", { name: draft.name })}
        to={`/tuning/${draft.name}`}
        back="/tuning"
        code={() => tuningJobCode(toTuningRequest(draft, tuning))}
      >
        {(faults) => {
          const section = { draft, faults, set: (change: Partial<Draft>) => setDraft((before) => ({ ...before, ...change })) };
          const parts = { draft, tuning, faults, set: (change: Partial<Tuning>) => setTuning((before) => ({ ...before, ...change })) };
          return (
            <SpaceBetween size="l">
              <JobSettings {...section} name="form.jobName" />
              <Settings {...parts} />
              <Ranges {...parts} />
              <Hyperparameters {...section} />
              <Resources {...section} />
              <Network {...section} />
              <InputData {...section} />
              <Output {...section} />
              <EnvironmentAndTags {...section} />
            </SpaceBetween>
          );
        }}
      </CreationForm>
    </Page>
  );
}

interface Parts {
  draft: Draft;
  tuning: Tuning;
  faults: Faults;
  set: (change: Partial<Tuning>) => void;
}

/** Strategy, objective and limits. */
function Settings({ draft, tuning, faults, set }: Parts) {
  const { t } = useWords();
  const fault = useFault();
  const objectives = builtin(draft)?.objectives;
  return (
    <Container header={<Header variant="h2">{t("tuning.settings")}</Header>}>
      <SpaceBetween size="l">
        <ColumnLayout columns={3}>
          <FormField label={t("tuning.strategy")}>
            <Select
              selectedOption={{ value: tuning.strategy, label: tuning.strategy }}
              options={STRATEGIES.map((value) => ({ value, label: value }))}
              onChange={({ detail }) => set({ strategy: detail.selectedOption.value as Tuning["strategy"] })}
            />
          </FormField>
          <FormField label={t("tuning.objective")} errorText={fault(faults.objective)}>
            {objectives === undefined ? (
              <Input value={tuning.objective} onChange={({ detail }) => set({ objective: detail.value })} />
            ) : (
              <Select
                selectedOption={{ value: tuning.objective, label: tuning.objective }}
                options={objectives.map(({ name }) => ({ value: name, label: name }))}
                filteringType="auto"
                onChange={({ detail }) => {
                  const objective = objectives.find(({ name }) => name === detail.selectedOption.value)!;
                  set({ objective: objective.name, direction: objective.type });
                }}
              />
            )}
          </FormField>
          <FormField label={t("tuning.direction")}>
            <Select
              selectedOption={{ value: tuning.direction, label: t(`tuning.${tuning.direction}`) }}
              options={(["Maximize", "Minimize"] as const).map((value) => ({ value, label: t(`tuning.${value}`) }))}
              onChange={({ detail }) => set({ direction: detail.selectedOption.value as Tuning["direction"] })}
            />
          </FormField>
          <TextField label="tuning.maxJobs" numeric value={tuning.maxJobs} fault={faults.maxJobs} onChange={(maxJobs) => set({ maxJobs })} />
          <TextField label="tuning.maxParallel" numeric value={tuning.maxParallel} fault={faults.maxParallel}
            onChange={(maxParallel) => set({ maxParallel })} />
          <TextField label="tuning.seed" optional numeric value={tuning.seed} fault={faults.seed} onChange={(seed) => set({ seed })} />
        </ColumnLayout>
        <Checkbox checked={tuning.earlyStopping} description={t("tuning.earlyStoppingHint")}
          onChange={({ detail }) => set({ earlyStopping: detail.checked })}>
          {t("tuning.earlyStopping")}
        </Checkbox>
      </SpaceBetween>
    </Container>
  );
}

/** The hyperparameters that are tuned, and their ranges. */
function Ranges({ draft, tuning, faults, set }: Parts) {
  const { t } = useWords();
  const fault = useFault();
  const known = builtin(draft)?.hyperparameters;
  const free = (known ?? []).filter(({ name, tune, kind }) => (tune || kind === "Categorical") && tuning.ranges.every((range) => range.name !== name));
  const change = (index: number, part: Partial<Range>) => set({ ranges: changed(tuning.ranges, index, part) });
  return (
    <Container
      header={
        <Header variant="h2" description={t("tuning.rangesHint")}
          actions={
            <Button formAction="none"
              onClick={() => set({ ranges: [...tuning.ranges, proposed(free[0]?.name ?? "", free[0])] })}>
              {t("tuning.addRange")}
            </Button>
          }>
          {t("tuning.ranges")}
        </Header>
      }
    >
      <FormField stretch errorText={fault(faults.ranges)}>
        <SpaceBetween size="l">
          {tuning.ranges.map((range, index) => (
            <Grid key={index} gridDefinition={[{ colspan: 3 }, { colspan: 2 }, ...(range.kind === "Categorical" ? [{ colspan: 5 }] : [{ colspan: 2 }, { colspan: 2 }, { colspan: 2 }]), { colspan: 1 }]}>
              <FormField label={t("tuning.hyperparameter")} errorText={fault(faults[`ranges.${index}`])}>
                {known === undefined ? (
                  <Input value={range.name} onChange={({ detail }) => change(index, { name: detail.value })} />
                ) : (
                  <Select
                    selectedOption={{ value: range.name, label: range.name }}
                    options={[...known.filter(({ name }) => name === range.name), ...free].map(({ name }) => ({ value: name, label: name }))}
                    onChange={({ detail }) => {
                      const name = detail.selectedOption.value!;
                      change(index, proposed(name, known.find((parameter) => parameter.name === name)));
                    }}
                  />
                )}
              </FormField>
              <FormField label={t("tuning.kind")}>
                <Select
                  selectedOption={{ value: range.kind, label: range.kind }}
                  options={(["Continuous", "Integer", "Categorical"] as const).map((value) => ({ value, label: value }))}
                  onChange={({ detail }) => change(index, { kind: detail.selectedOption.value as Range["kind"] })}
                />
              </FormField>
              {range.kind === "Categorical" ? (
                <FormField label={t("tuning.values")}>
                  <Input value={range.values} onChange={({ detail }) => change(index, { values: detail.value })} />
                </FormField>
              ) : (
                <FormField label={t("tuning.min")}>
                  <Input value={range.min} inputMode="decimal" onChange={({ detail }) => change(index, { min: detail.value })} />
                </FormField>
              )}
              {range.kind !== "Categorical" && (
                <FormField label={t("tuning.max")}>
                  <Input value={range.max} inputMode="decimal" onChange={({ detail }) => change(index, { max: detail.value })} />
                </FormField>
              )}
              {range.kind !== "Categorical" && (
                <FormField label={t("tuning.scaling")}>
                  <Select
                    selectedOption={{ value: range.scaling, label: range.scaling }}
                    options={SCALINGS.map((value) => ({ value, label: value }))}
                    onChange={({ detail }) => change(index, { scaling: detail.selectedOption.value as Range["scaling"] })}
                  />
                </FormField>
              )}
              <Button formAction="none" iconName="remove" variant="icon" ariaLabel={t("tuning.removeRange", { name: range.name })}
                onClick={() => set({ ranges: tuning.ranges.filter((_, other) => other !== index) })} />
            </Grid>
          ))}
        </SpaceBetween>
      </FormField>
    </Container>
  );
}
