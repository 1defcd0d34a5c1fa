/** Datagrams to sockets of this machine, which Node does not have. */
export interface NativeDatagram {
  /**
   * Sends one datagram to an AF_UNIX socket: a path, or with a leading `@` a name of the abstract space. Waits a quarter of a second at most.
   * @throws INVALID_ARGUMENT: no socket has such an address; IO_ERROR, PERMISSION_DENIED: why it could not be sent
   */
  sendDatagram(address: string, text: string): void;
}
