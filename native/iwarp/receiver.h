// The receiving half of DDP and RDMAP: takes FPDUs apart, checks each before a byte of it is placed, and
// completes RECVs and READs. Runs on one thread.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "iwarp/rx_stream.h"

namespace rdma_migrate::iwarp {

// This side has no room for what the peer wrote, or cannot reach it: the peer did nothing wrong.
struct PlacementFault {
  Error error;
};

class Receiver {
 public:
  Receiver(Link& link, fabric::ConnectionEvents& events) : link_(link), events_(events), stream_(link) {}

  // on_ready: set when the peer owes a ready-to-receive message (RFC 6581 section 9) by ready_deadline:
  // called at the first FPDU. Returns when the peer has ended the stream between messages. Throws Stopped,
  // WireFault and Error.
  void run(std::function<void()> on_ready, Clock::time_point ready_deadline);

  // The TERMINATE for a fault that run() has thrown, with the headers of the segment at fault.
  fabric::Bytes terminate_payload(TerminateCode code) const;
  void discard_until(Clock::time_point deadline) { stream_.discard_until(deadline); }

 private:
  bool next_header();
  void read_header(size_t ulpdu);
  void become_ready();
  void check_header() const;
  void dispatch();
  void on_write();
  void on_read_request();
  void on_read_response();
  void on_send();
  void on_terminate();
  void place_send(const fabric::RecvWorkRequest& request);
  void deliver_send(const fabric::RecvWorkRequest& request);
  Target write_target();
  Target local_target(uint32_t stag, uint64_t address, uint64_t length);
  void check_read_source(const ReadRequest& request) const;
  void place(const Target& target);
  void finish() { stream_.finish_fpdu(ulpdu_); }
  void expect_queue(DdpQueue queue) const;
  bool ends_with_invalidate() const;
  [[noreturn]] void fault(TerminateCode code, const std::string& what) const;

  Link& link_;
  fabric::ConnectionEvents& events_;
  RxStream stream_;
  std::function<void()> on_ready_;

  // The FPDU in hand.
  DdpHeader header_;
  size_t ulpdu_ = 0;
  size_t payload_ = 0;
  uint8_t raw_header_[kUntaggedSize] = {};
  size_t raw_header_size_ = 0;  // 0: none understood
  uint8_t raw_read_request_[kReadRequestSize] = {};
  bool has_read_request_ = false;

  // The stream.
  uint32_t send_msn_ = 1;
  uint32_t read_msn_ = 1;
  bool send_open_ = false;      // segments of a SEND have arrived, the last one has not
  uint32_t send_received_ = 0;  // bytes of it
  uint32_t read_received_ = 0;  // bytes of the oldest READ's response
  Region cached_;               // the region of the last WRITE
  uint64_t cached_generation_ = 0;
};

}  // namespace rdma_migrate::iwarp
