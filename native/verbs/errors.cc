#include "verbs/errors.h"

#include <cerrno>

#include "fabric/hex.h"

namespace rdma_migrate::verbs {
namespace {

// ib_cm's reject reasons, InfiniBand specification volume 1, section 12.6.7.2.
constexpr int kRejectInvalidServiceId = 8;
constexpr int kRejectConsumerDefined = 28;

// InfiniBand and RoCE pad private data with zeros; what was said ends with the last byte that is none.
std::span<const uint8_t> without_padding(const fabric::Bytes& data) {
  size_t size = data.size();
  while (size != 0 && data[size - 1] == 0) --size;
  return std::span(data).first(size);
}

Error refused(const std::string& peer) {
  return Error("CONNECTION_REFUSED",
               "nothing listens for RDMA on " + peer +
                   "; start the receiving side first, check the port and that it uses an RDMA device");
}

Error rejected(const CmEvent& event, const std::string& peer) {
  const auto said = without_padding(event.private_data);
  return Error("REJECTED", peer + " rejected the connection, with " + std::to_string(said.size()) +
                               " bytes of private data" + (said.empty() ? "" : ": " + fabric::hex_of(said)) +
                               "; see its log for the reason")
      .with_private_data(event.private_data);
}

Error not_answering(const std::string& peer) {
  return Error("TIMEOUT", peer +
                              " did not answer; check the address, and the network and firewalls on the way "
                              "(RoCE v2 uses UDP port 4791)");
}

}  // namespace

Error connect_event_error(const CmEvent& event, const std::string& peer, bool iwarp) {
  switch (event.type) {
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
      return event.status == -ETIMEDOUT || event.status == 0
                 ? not_answering(peer)
                 : connect_call_error("rdma_cm", peer, -event.status);
    case RDMA_CM_EVENT_REJECTED:
      if (!iwarp && event.status == kRejectInvalidServiceId) return refused(peer);
      if (iwarp || event.status == kRejectConsumerDefined) return rejected(event, peer);
      return Error("REJECTED", peer + " rejected the connection: reject reason " +
                                   std::to_string(event.status) +
                                   " of the InfiniBand connection manager; see its kernel's log");
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      return Error("CONNECTION_LOST", "the RDMA device was removed while connecting to " + peer);
    case RDMA_CM_EVENT_DISCONNECTED:
      return Error("CONNECTION_LOST",
                   peer + " ended the connection before it was established; see its log for the reason");
    default:
      return Error(
          "CONNECT_FAILED",
          "cannot connect to " + peer + ": " + rdma_event_str(event.type) + ", status " +
              std::to_string(event.status) +
              (iwarp ? "; Linux' siw fails so from time to time when a QEMU listens: start both again; "
                       "or see the kernel's log on both sides"
                     : "; see the kernel's log on both sides"));
  }
}

Error connect_call_error(const char* call, const std::string& peer, int error_number) {
  switch (error_number) {
    case ECONNREFUSED:
      return refused(peer);
    case ETIMEDOUT:
      return not_answering(peer);
    case ENODEV:
    case EADDRNOTAVAIL:
      return no_device_error(peer, error_number);
    default:
      return Error("CONNECT_FAILED",
                   "cannot connect to " + peer + " (" + call + "); check the address, routes and firewalls",
                   error_number);
  }
}

Error resolve_call_error(const char* call, const std::string& peer, int error_number) {
  // What rdma_cm says where no device is behind the route, such as the one to 127.0.0.1.
  if (error_number == EINVAL) return no_device_error(peer, 0);
  return connect_call_error(call, peer, error_number);
}

Error no_device_error(const std::string& peer, int error_number) {
  return Error("PROVIDER_UNAVAILABLE",
               "no RDMA device of this machine leads to " + peer +
                   "; use an address of the device's network (rdma-migrate doctor shows the devices), or "
                   "provider iwarp",
               error_number);
}

Error completion_error(const ibv_wc& completion, const std::string& peer) {
  const std::string what = std::string(ibv_wc_status_str(completion.status)) + " (vendor code " +
                           std::to_string(completion.vendor_err) + ")";
  switch (completion.status) {
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_LOC_ACCESS_ERR:
    case IBV_WC_MW_BIND_ERR:
      return Error("INVALID_ARGUMENT",
                   "the memory region of a posted work request was deregistered before it was used: " + what);
    case IBV_WC_LOC_LEN_ERR:
      return Error("WIRE_ERROR",
                   "bad message from " + peer + ": longer than the RECV posted for it: " + what);
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
      return Error("REMOTE_ACCESS_ERROR",
                   peer + " refused a WRITE or READ: wrong key, range or rights: " + what);
    case IBV_WC_REM_INV_REQ_ERR:
      return Error("WIRE_ERROR", peer + " refused a message, such as one longer than its RECV: " + what);
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return Error(
          "WIRE_ERROR",
          peer + " had no RECV posted for a SEND (receiver not ready): it does not keep its turns: " + what);
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
    case IBV_WC_REM_ABORT_ERR:
      return Error("CONNECTION_LOST", peer + " does not answer any more; check it and the network: " + what);
    default:
      return Error("CONNECTION_LOST",
                   "the connection to " + peer + " broke: " + what + "; see the kernel's log");
  }
}

}  // namespace rdma_migrate::verbs
