/** An error as the service words it: its code, and what it says to change. */
export function wording(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { $response, $metadata } = error as { $response?: { statusCode?: number }; $metadata?: { httpStatusCode?: number } };
  const status = $response?.statusCode ?? $metadata?.httpStatusCode;
  // Not the service's words: a proxy's before it, say. The SDK tells programmers what it could not read in JSON, or nothing of XML.
  const unread = error.message.includes("Deserialization error") || error.name === "Unknown";
  if (unread && status !== undefined) return `HTTP ${status}`;
  return error.name === "Error" || error.name === "TypeError" ? error.message : `${error.name}: ${error.message}`;
}

const UNKNOWN = ["UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure", "MissingAuthenticationTokenException"];
/** As JSON services, those of AWS Query, and EC2 call it. */
const EXPIRED = ["ExpiredTokenException", "ExpiredToken", "RequestExpired"];

/** Whether the service does not take the key any more, or the signature's clock is off: signing in again is what helps. */
export function isSignedOut(error: unknown): boolean {
  return error instanceof Error && [...UNKNOWN, ...EXPIRED].includes(error.name);
}
