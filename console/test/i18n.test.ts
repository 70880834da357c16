import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { words } from "../src/i18n";
import { en } from "../src/i18n/en";
import { ja } from "../src/i18n/ja";
import { explained, said } from "../src/i18n/said";

const SOURCE = join(import.meta.dirname, "../src");
const FILES = readdirSync(SOURCE, { recursive: true, encoding: "utf8" }).filter((name) => /\.tsx?$/.test(name));

const holes = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((hole) => hole[1]).sort();

test("Japanese says all that English says, with the same values", () => {
  expect(Object.keys(ja)).toEqual(Object.keys(en));
  for (const [key, text] of Object.entries(en)) expect([key, holes(ja[key as keyof typeof en])]).toEqual([key, holes(text)]);
});

test("no Japanese text is English", () => {
  const same = Object.entries(ja).filter(([key, text]) => text === en[key as keyof typeof en]);
  expect(same.map(([key]) => key).filter((key) => !key.startsWith("unit."))).toEqual(["job.arn", "network.vpc", "pairs.ike", "pairs.spi", "rules.kind.ike"]);
});

/** Members whose texts people read or hear. */
const SHOWN =
  /^(aria[A-Z]\w*|alt|title|label|labels|text|header|headerText|description|placeholder|constraintText|errorText|info|empty|content|children|filteringPlaceholder|\w*Label|\w*Text)$/;
/** Names of programs and of Phalanx are the same in every language. */
const NAMES = ["boto3", "AWS CLI", "SageMaker Python SDK v2", "SageMaker Python SDK v3", "Phalanx", "s3://bucket/path/", ""];

function strings(name: string, text = readFileSync(join(SOURCE, name), "utf8")): string[] {
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const texts = (node: ts.Node): string[] => {
    if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return [node.text];
    if (ts.isTemplateExpression(node)) return [node.head.text, ...node.templateSpans.map((span) => span.literal.text)];
    if (ts.isJsxExpression(node) && node.expression !== undefined) return texts(node.expression);
    if (ts.isConditionalExpression(node)) return [...texts(node.whenTrue), ...texts(node.whenFalse)];
    return [];
  };
  const visit = (node: ts.Node) => {
    if (ts.isJsxText(node)) found.push(node.text.trim());
    if (ts.isJsxAttribute(node) && SHOWN.test(node.name.getText()) && node.initializer !== undefined) found.push(...texts(node.initializer));
    if (ts.isJsxExpression(node) && !ts.isJsxAttribute(node.parent) && node.expression !== undefined) found.push(...texts(node));
    if (ts.isPropertyAssignment(node) && SHOWN.test(node.name.getText())) found.push(...texts(node.initializer));
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found.filter((text) => /\p{L}{2}/u.test(text) && !NAMES.includes(text) && !(text in en));
}

test("no text that people read is outside the catalogues", () => {
  const outside = FILES.filter((name) => !name.startsWith("i18n/")).flatMap((name) => strings(name).map((text) => `${name}: ${text}`));
  expect(outside).toEqual([]);
});

test("that check sees texts in elements, attributes, members and choices", () => {
  const page = 'const a = <p title="One thing">Two things {b ? "Three things" : `Four ${c} things`}</p>; f({ header: "Five" });';
  expect(strings("page.tsx", page)).toEqual(["One thing", "Two things", "Three things", "Four ", " things", "Five"]);
});

test("nothing in the catalogues is unused", () => {
  const source = FILES.filter((name) => !/^i18n\/(en|ja)\.ts$/.test(name))
    .map((name) => readFileSync(join(SOURCE, name), "utf8"))
    .join("\n");
  const built = [...source.matchAll(/`([\w.]+)\$\{/g)].map((match) => match[1]!).filter((prefix) => prefix.includes("."));
  const unused = Object.keys(en).filter((key) => !/^(said|why)\./.test(key) && !source.includes(`"${key}"`) && !built.some((prefix) => key.startsWith(prefix)));
  expect(unused).toEqual([]);
});

test("why traffic is stopped is said in the reader's language, and what is not known stays as it is", () => {
  const [english, japanese] = [words("en", en), words("ja", ja)];
  const reason =
    "Security group sg-1 has no inbound rule for IKE (UDP 500) from itself, no outbound rule for ESP (protocol 50) to itself." +
    " An encrypted job needs UDP 500 and ESP allowed both ways between its instances. Run: aws ec2 authorize. More commands are needed.";
  expect(explained(english, reason)).toBe(reason);
  const told =
    "セキュリティグループ sg-1 に次のルールがありません。インバウンド: 同じグループからの UDP 500 (IKE)、アウトバウンド: 同じグループへの ESP (プロトコル 50)。" +
    ` ${ja["why.need"]} 実行するコマンド: aws ec2 authorize. ${ja["why.moreCommands"]}`;
  expect(explained(japanese, reason)).toBe(told);
  expect(said(japanese, `Traffic between the instances is stopped: ${reason}`)).toBe(`インスタンス間のトラフィックが停止しています: ${told}`);
  expect(explained(japanese, "the kernel's guard was seen to hold again")).toBe("カーネルのガードが再び有効であることを確認しました");
  expect(explained(japanese, "charon was killed")).toBe("charon was killed");
  expect(said(japanese, "Something else.")).toBe("Something else.");
});

test.each([
  [0, "0"],
  [0.5, "0.5"],
  [0.00012345678, "0.000123457"],
  [0.00003, "3E-5"],
  [-0.0000000412345678, "-4.12346E-8"],
  [12.3456789, "12.345679"],
  [1234567.891, "1,234,567.891"],
  [2 ** 100, "1.26765E30"],
])("a measured value of %d is written %s", (value, text) => {
  expect(words("en", en).measured(value)).toBe(text);
  expect(words("ja", ja).measured(value)).toBe(text);
});

test("numbers, times and sizes are written as the language writes them", () => {
  const [english, japanese] = [words("en", en), words("ja", ja)];
  expect(english.duration(3725)).toBe("1 h 2 min 5 s");
  expect(japanese.duration(3725)).toBe("1 時間 2 分 5 秒");
  expect(english.duration(0)).toBe("0 s");
  expect(english.bytes(1536)).toBe("1.5 KiB");
  expect(english.number(1234567.891)).toBe("1,234,567.891");
  expect(japanese.moment(0)).toContain("1970/01/01");
  // A moment says in which time zone it is, so that it can be held against a log or a colleague's screen.
  for (const each of [english, japanese]) expect(each.moment(0)).toMatch(/ (UTC|GMT[-+0-9:]*|[A-Z]{3,4})$/);
});
