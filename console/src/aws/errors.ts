/** An error as the service words it: its code, and what it says to change. */
export function wording(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === "Error" || error.name === "TypeError" ? error.message : `${error.name}: ${error.message}`;
}

/** Whether the service does not know the key any more, or the signature's clock is off: signing in again is what helps. */
export function isSignedOut(error: unknown): boolean {
  const codes = ["UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure", "MissingAuthenticationTokenException"];
  return error instanceof Error && codes.includes(error.name);
}
