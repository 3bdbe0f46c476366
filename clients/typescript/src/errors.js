/**
 * A refused request, as RFC 9457 problem details.
 *
 * `status` is the HTTP status, 0 where no answer came. Program against `code`; `message` is for people.
 */
export class ApiError extends Error {
  /**
   * @param {import("./types.js").Problem} problem
   * @param {number} [retryAfterSeconds]
   */
  constructor(problem, retryAfterSeconds) {
    super(problem.detail);
    this.name = "ApiError";
    this.status = problem.status;
    this.code = problem.code;
    this.title = problem.title;
    /** Invalid fields, each with its dotted `path` and a `message`. */
    this.errors = problem.errors ?? [];
    this.requestId = problem.requestId;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

/**
 * Reads the error of a response.
 *
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
export async function errorOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  const fallback = {
    status: response.status,
    code: `http-${response.status}`,
    title: response.statusText,
    detail: `The service answered ${response.status} ${response.statusText}`.trim() + ".",
    requestId: response.headers.get("X-Request-Id") ?? undefined,
  };
  try {
    return new ApiError({ ...fallback, ...(await response.json()) }, retryAfter);
  } catch {
    return new ApiError(fallback, retryAfter);
  }
}

/**
 * The error of a request that got no answer.
 *
 * @param {unknown} cause
 * @returns {ApiError}
 */
export function unreachable(cause) {
  const error = new ApiError({
    status: 0,
    code: "unreachable",
    title: "Unreachable",
    detail: "The service does not answer.",
  });
  error.cause = cause;
  return error;
}
