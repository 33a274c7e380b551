/** A module that exports nothing an lcore could run. */
export const nothing = 0;
