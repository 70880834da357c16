/** The AWS SDK's clients, pointed at the endpoint that this page came from, and signing with the user's own key. */
import { Sha256 } from "@aws-crypto/sha256-js";
import { CloudWatchClient } from "@aws-sdk/client-cloudwatch";
import { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { EC2Client } from "@aws-sdk/client-ec2";
import { SageMakerClient } from "@aws-sdk/client-sagemaker";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { SignatureV4 } from "@smithy/signature-v4";

export interface Key {
  accessKeyId: string;
  secretAccessKey: string;
  /** Of temporary credentials, such as a role's. */
  sessionToken?: string;
  region: string;
}

/** What the service says of itself to anybody (/console/settings.json). */
export interface Settings {
  region: string;
  s3: string;
}

export interface Identity {
  account: string;
  arn: string;
}

export interface Clients {
  /** The region that the service calls its own, whichever the requests are signed for: the bucket that it made is named by it. */
  home: string;
  /** Now by the service's clock, as far as the SDK has learned from answers that the browser's is off. */
  now: () => Date;
  sagemaker: SageMakerClient;
  ec2: EC2Client;
  logs: CloudWatchLogsClient;
  cloudwatch: CloudWatchClient;
  /** Calls an operation of the service `phalanx`. */
  phalanx: <Answer>(operation: string, members: object) => Promise<Answer>;
  /** A URL that downloads an object of S3 for some minutes, without a key. */
  download: (s3Uri: string) => Promise<string>;
}

const DOWNLOAD_SECONDS = 300;

function common(key: Key) {
  const { region, ...credentials } = key;
  return { region, endpoint: location.origin, credentials, maxAttempts: 2 };
}

/** Whose key this is. Rejects where the service does not take it. */
export async function identify(key: Key): Promise<Identity> {
  const answer = await new STSClient(common(key)).send(new GetCallerIdentityCommand({}));
  return { account: answer.Account ?? "", arn: answer.Arn ?? "" };
}

/** Whom people take it for: a user's name; of an assumed role also who it was assumed as. */
export function nameOf({ arn }: Identity): string {
  return arn.split(":assumed-role/")[1] ?? arn.split("/").pop()!;
}

/** A text as signatures have it in URLs (SigV4's UriEncode): encodeURIComponent leaves more than they do as it is. */
const escaped = (text: string) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

export function clients(key: Key, settings: Settings): Clients {
  const signer = (service: string, options: object = {}) =>
    new SignatureV4({ service, region: key.region, credentials: common(key).credentials, sha256: Sha256, ...options });
  const sagemaker = new SageMakerClient(common(key));
  const now = () => new Date(Date.now() + sagemaker.config.systemClockOffset);
  return {
    home: settings.region,
    now,
    sagemaker,
    ec2: new EC2Client(common(key)),
    logs: new CloudWatchLogsClient(common(key)),
    cloudwatch: new CloudWatchClient(common(key)),
    phalanx: async (operation, members) => {
      const body = JSON.stringify(members);
      const signed = await signer("phalanx").sign(
        {
          method: "POST",
          protocol: location.protocol,
          hostname: location.hostname,
          port: Number(location.port) || undefined,
          path: "/",
          headers: {
            host: location.host,
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": `Phalanx.${operation}`,
          },
          body,
        },
        { signingDate: now() },
      );
      const { host: _, ...headers } = signed.headers;
      const response = await fetch("/", { method: "POST", headers, body });
      const answer = await response.json().catch(() => {
        throw new Error(`HTTP ${response.status}`);
      });
      if (!response.ok) {
        throw Object.assign(new Error(answer.Message ?? answer.message), { name: answer.__type });
      }
      return answer;
    },
    download: async (s3Uri) => {
      const [, bucket, object] = /^s3:\/\/([^/]+)\/(.+)$/.exec(s3Uri) ?? [];
      const base = new URL(settings.s3);
      const path = `/${bucket}/${object!.split("/").map(escaped).join("/")}`;
      const signed = await signer("s3", { uriEscapePath: false, applyChecksum: false }).presign(
        {
          method: "GET",
          protocol: base.protocol,
          hostname: base.hostname,
          port: Number(base.port) || undefined,
          path,
          headers: { host: base.host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD" },
        },
        { expiresIn: DOWNLOAD_SECONDS, signingDate: now() },
      );
      const query = Object.entries(signed.query ?? {}).map(([name, value]) => `${name}=${escaped(String(value))}`);
      return `${base.origin}${path}?${query.join("&")}`;
    },
  };
}
