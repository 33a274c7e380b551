/** What every server of the HTTP benchmark answers with. */
export const ANSWER = "hello\n";
