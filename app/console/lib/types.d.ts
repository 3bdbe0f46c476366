/** A value that components read, and render again when it changes. */
export interface Signal<T> {
  value: T;
}
