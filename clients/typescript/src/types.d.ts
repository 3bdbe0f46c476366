/** RFC 9457 problem details. */
export interface Problem {
  status: number;
  code: string;
  title: string;
  detail: string;
  errors?: { path: string; message: string }[];
  requestId?: string;
}

export type Query = Record<string, string | number | boolean | null | undefined>;

export interface RequestOptions {
  query?: Query;
  body?: unknown;
  headers?: Record<string, string>;
  idempotencyKey?: string;
  signal?: AbortSignal;
  onHeaders?: (headers: Headers) => void;
}

export interface ClientOptions {
  /** The address of the service. Default: the page's origin, else `http://127.0.0.1:8000`. */
  baseUrl?: string;
  /** An API key or a JSON Web Token. */
  apiKey?: string;
  fetch?: typeof fetch;
  /** A WebSocket class, where the platform has none. */
  WebSocket?: typeof WebSocket;
}

export interface StartRequest {
  agent?: string;
  department?: string;
  departments?: string[];
  prompt: string;
  /** The id of a CMS project: 24 hexadecimal characters. */
  project: string;
  idempotencyKey?: string;
  [field: string]: unknown;
}

/** `connecting`, `live`, `reconnecting` after a break, `ended`. */
export type FollowState = "connecting" | "live" | "reconnecting" | "ended";

export interface FollowOptions {
  url: string;
  apiKey?: string;
  executionId: string;
  /** The `seq` of the last event that the caller has. */
  after?: number;
  /** Whether to yield the models' text while it is written (`agent-delta`). */
  deltas?: boolean;
  signal?: AbortSignal;
  onState?: (state: FollowState) => void;
  WebSocket?: typeof WebSocket;
}

/** An event of a run; its further fields depend on `type`. */
export interface RunEvent {
  type: string;
  seq: number;
  executionId: string;
  rootExecutionId: string;
  timestamp: string;
  agentId?: string;
  [field: string]: any;
}

export interface ExecutionEnd {
  type: "execution-end";
  executionId: string;
  status: "completed" | "failed" | "cancelled";
  lastSeq: number;
}
