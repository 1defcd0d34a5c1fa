// The receiving half of MPA, DDP and RDMAP as a state machine that never waits: takes FPDUs apart, checks
// each before a byte of it is placed, and completes RECVs and READs. Headers and small messages pass through
// a buffer; payload goes from the socket into registered memory, in one system call with the trailer of its
// FPDU and the header of the next one. Payload for pages of a file that hold nothing yet passes through the
// buffer too, many FPDUs at a time, and is stored in the file: that costs a third of a first touch. It counts
// as placed, and its messages as arrived, when it has been stored.
//
// With CRC, bytes may be placed before their FPDU's CRC is known. That is right only as long as a failure
// discards the memory: whoever lets a peer write into memory that stays in use must not rely on the CRC
// alone.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fabric/progress_watch.h"
#include "iwarp/ddp.h"
#include "iwarp/message_state.h"
#include "iwarp/record.h"
#include "iwarp/rx_buffer.h"
#include "iwarp/stored_run.h"
#include "iwarp/terminate.h"

namespace rdma_migrate::iwarp {

// A WRITE of the peer's that this side cannot keep: nothing more is received, but a word may still be said.
struct PlacementFault {
  Error error;
};

class Receiver {
 public:
  Receiver(MessageState& messages, IoSection& section, const std::string& peer)
      : messages_(messages), section_(section), peer_(peer), watch_(messages.stall_timeout()) {}

  void open(int socket, bool crc, bool awaits_ready);

  // What comes after the last message that has been taken is protected records, in which there is no CRC,
  // also what is in the buffer already. Throws Error INVALID_ARGUMENT (a message is open),
  // CRYPTO_UNAVAILABLE, and std::bad_alloc; nothing has changed then.
  void protect(const fabric::Protection& protection);
  bool is_protected() const { return records_.has_value(); }

  enum class Went {
    kDry,    // the socket has nothing for now
    kHeld,   // there may be more; nothing is to be taken until the owner has said how it goes on
    kOn,     // there is more; others first
    kReady,  // the ready-to-receive message that was owed has come, or may be taken to have; there is more
    kEnded,  // the peer has ended the stream, and between messages
  };
  // Takes what the socket has: budget bytes or a little more. What is in a wide buffer by then (256 KiB at
  // most, and as much in records) is taken too, and counts for nothing. Throws WireFault, PlacementFault
  // (IO_ERROR, DISK_FULL), and Error CONNECTION_LOST, TERMINATE_RECEIVED, INVALID_ARGUMENT.
  Went receive(size_t budget);

  // No ready-to-receive message is owed (any more).
  bool is_ready() const { return !awaits_ready_; }

  // What the peer owes makes no progress: throws Error TIMEOUT.
  void check_stall(Clock::time_point now);
  // When to look again; nothing is owed: never.
  std::optional<Clock::time_point> next_look(Clock::time_point now);

  // The TERMINATE for a fault that receive() has thrown, with the headers of the segment at fault.
  fabric::Bytes terminate_payload(TerminateCode code) const;
  // Throws away what the socket has. kDry, kOn or kEnded.
  Went discard();
  // The stream ends after what the socket has, or has an error: receiving less than was asked for no longer
  // means that the rest is still to come, with a word from epoll.
  void expect_end() { end_is_near_ = true; }
  // The peer has ended the stream where it may not. It must not take our end for an orderly one.
  bool truncated() const { return truncated_; }
  // Of a resumable queue pair: the peer has said that it ends the stream in good order.
  bool end_said() const { return end_said_; }

 private:
  // What an FPDU or a record counts for at least: taking one apart costs as much as that many bytes of
  // payload, and others have their turn.
  static constexpr size_t kLeastCharge = 512;

  enum class Phase { kHeader, kPayload, kInline, kTrailer };
  // A checked place in registered memory, and how to check it again when a region has gone in the meantime.
  struct Target {
    Region region;
    uint64_t generation = 0;
    uint64_t address = 0;  // local, of the next byte
    unsigned right = 0;
    TerminateCode gone = TerminateCode::kTaggedInvalidStag;
  };

  // receiver.cc: the stream.
  bool finishes_buffer() const { return records_ || buffer_.is_wide(); }
  bool is_turn_over() const;
  bool may_read() const { return !dry_ && !eof_ && !is_turn_over(); }
  bool pull(size_t wanted);
  bool have(size_t size);
  bool reads_ahead() const;
  bool step();
  bool take_header();
  void look_for_end();
  bool take_inline();
  bool take_trailer();
  void take(size_t size);
  void add_crc(const uint8_t* data, size_t size);
  bool owes() const;
  bool in_message() const { return send_open_ || read_received_ != 0; }
  [[noreturn]] void fail(int error_number) const;
  [[noreturn]] void fail_truncated(const std::string& how);
  size_t note_received(ssize_t got, size_t wanted);

  // receiver_records.cc: the protected stream.
  bool pull_records();
  size_t open_records();

  // receiver_payload.cc: into memory.
  bool take_payload();
  bool receive_payload();
  void place_buffered();
  bool finds_fresh_pages();
  bool continues_run() const;
  void add_to_run();
  void flush();
  void store_run();
  void end_write();
  void tell_placed(uint64_t address, uint64_t size);
  void prepare(size_t size);
  void note_placed(const Target& target, size_t size);
  void count_write();
  void recheck(const Target& target) const;
  void note_payload(size_t size);

  // receiver_messages.cc: what an FPDU means.
  void check_header() const;
  bool is_known() const;
  bool is_ready_message() const;
  void become_ready();
  void begin_message();
  void begin_write();
  void begin_send();
  void begin_read_request();
  void begin_read_response();
  void begin_terminate();
  void begin_control();
  void end_message();
  void end_send();
  void end_read_request();
  void end_read_response();
  void end_control();
  void acknowledge(uint64_t rx_seq);
  void check_read_source(const ReadRequest& request) const;
  void find_write_target();
  void set_local_target(uint32_t stag, uint64_t address, uint64_t length, uint64_t skip);
  void expect_queue(DdpQueue queue) const;
  [[noreturn]] void fault(TerminateCode code, const std::string& what) const;

  MessageState& messages_;
  IoSection& section_;
  const std::string& peer_;
  fabric::ProgressWatch watch_;
  int socket_ = -1;
  bool crc_on_ = false;
  bool awaits_ready_ = false;
  bool became_ready_ = false;
  bool dry_ = false;
  bool held_ = false;  // this turn ended because of MessageState::held
  bool eof_ = false;
  bool end_is_near_ = false;
  bool truncated_ = false;
  bool end_said_ = false;
  size_t budget_ = 0;

  std::optional<RecordReader> records_;
  RxBuffer buffer_;
  Phase phase_ = Phase::kHeader;

  // The FPDU in hand.
  DdpHeader header_;
  size_t ulpdu_ = 0;
  size_t payload_ = 0;  // of it, all
  size_t left_ = 0;     // of it, not placed yet
  uint32_t crc_ = 0;
  Target target_;
  bool stores_ = false;  // its payload is stored by file, from the buffer
  uint8_t raw_header_[kUntaggedSize] = {};
  size_t raw_header_size_ = 0;   // 0: none understood
  std::vector<uint8_t> inline_;  // a READ request or a TERMINATE
  bool has_read_request_ = false;

  // What waits in the buffer to be stored; none of it is left when receive() returns.
  StoredRun run_;
  Target run_at_;
  size_t run_of_fpdu_ = 0;  // bytes of the run that are the FPDU's in hand
  // Whole segments of WRITEs that the observer is told of once they are stored, in one range.
  uint64_t untold_ = 0;
  uint64_t untold_size_ = 0;

  // The messages that are open.
  bool send_open_ = false;       // segments of a SEND have arrived, the last one has not
  uint32_t send_received_ = 0;   // bytes of it
  uint32_t read_received_ = 0;   // bytes of the oldest READ's response
  uint64_t write_received_ = 0;  // of the WRITE that comes, where messages are logged
  fabric::RecvWorkRequest recv_;
  Region cached_;  // the region of the last WRITE
  uint64_t cached_generation_ = 0;
};

}  // namespace rdma_migrate::iwarp
