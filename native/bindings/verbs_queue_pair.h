// NativeVerbsQueuePair of lib/native/verbs.ts.
#pragma once

#include <napi.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "bindings/js_queue.h"
#include "bindings/link_changes.h"
#include "bindings/verbs_classes.h"
#include "bindings/verbs_completions.h"

namespace rdma_migrate::bindings {

class VerbsQueuePairBinding final : public Napi::ObjectWrap<VerbsQueuePairBinding>,
                                    private fabric::QueuePairEvents {
 public:
  static Napi::Function define(Napi::Env env);
  // on_wake is called when there are completions for who has armed poll(), and when the queue pair has ended.
  static Napi::Object create(Napi::Env env, const SharedVerbsClasses& classes,
                             std::shared_ptr<OpenDomain> domain, Napi::Object options,
                             Napi::Function on_wake);

  explicit VerbsQueuePairBinding(const Napi::CallbackInfo& info);
  ~VerbsQueuePairBinding() override;

 private:
  using Deferred = Napi::Promise::Deferred;
  // In this order: the queue pair goes first.
  struct Held {
    std::shared_ptr<OpenDomain> domain;
    std::unique_ptr<fabric::QueuePair> queue_pair;
  };
  struct Counts {
    uint64_t bytes_sent = 0, bytes_received = 0, write_bytes_placed = 0, payload_received = 0;
    uint64_t resumes = 0, payload_resent = 0;
  };

  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value accept(const Napi::CallbackInfo& info);
  Napi::Value post_send(const Napi::CallbackInfo& info);
  Napi::Value post_recv(const Napi::CallbackInfo& info);
  Napi::Value poll(const Napi::CallbackInfo& info);
  Napi::Value link_change(const Napi::CallbackInfo& info);
  // verbs_move.cc
  Napi::Value prepare_move(const Napi::CallbackInfo& info);
  Napi::Value announcement(const Napi::CallbackInfo& info);
  Napi::Value stop_for_move(const Napi::CallbackInfo& info);
  Napi::Value freeze(const Napi::CallbackInfo& info);
  Napi::Value abort_move(const Napi::CallbackInfo& info);
  void commit_move(const Napi::CallbackInfo& info);
  void expect(const Napi::CallbackInfo& info);
  void thaw(const Napi::CallbackInfo& info);
  void take_over(const Napi::CallbackInfo& info);
  void disconnect(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value get_state(const Napi::CallbackInfo& info);
  Napi::Value get_info(const Napi::CallbackInfo& info);
  Napi::Value get_closed(const Napi::CallbackInfo& info);

  // Provider's thread.
  void on_established(std::span<const uint8_t> private_data) override;
  void on_send(std::span<const fabric::Completion> completions) override { push(completions); }
  void on_recv(std::span<const fabric::Completion> completions) override { push(completions); }
  void on_link_lost(const Error& reason) override { link_changed(reason); }
  void on_link_restored() override { link_changed(std::nullopt); }
  void on_move(fabric::MoveStep step, const Error* problem) override;
  void on_closed(const Error* reason) override;
  void link_changed(std::optional<Error> lost);
  void push(std::span<const fabric::Completion> completions);

  // JavaScript thread.
  void open(Napi::Env env, const std::shared_ptr<OpenDomain>& domain,
            const fabric::QueuePairOptions& options);
  Napi::Value begin_handshake(Napi::Env env, const std::function<void(fabric::QueuePair&)>& start);
  Napi::Value begin_step(Napi::Env env, fabric::MoveStep step,
                         const std::function<void(fabric::QueuePair&)>& start);
  void end_step(Napi::Env env, fabric::MoveStep step, const std::optional<Error>& problem);
  void handle_closed(Napi::Env env, const std::optional<Error>& reason);
  void let_go();
  fabric::QueuePair& live() const;
  Napi::Error end_error(Napi::Env env) const;
  static Counts counts_of(const fabric::QueuePair& queue_pair);

  std::shared_ptr<Held> held_;  // null once this has been closed
  std::shared_ptr<JsQueue> queue_;
  std::unique_ptr<VerbsCompletions> completions_;
  Napi::FunctionReference wake_;
  // Used by one post at a time, and kept, so that a post allocates nothing.
  std::vector<fabric::SendWorkRequest> sends_;
  std::vector<fabric::RecvWorkRequest> recvs_;

  // A deferred may be settled once only; its promise is a handle of the call that made it.
  bool handshake_begun_ = false;
  std::optional<Deferred> handshake_;
  std::optional<Deferred> closed_;
  Napi::ObjectReference closed_promise_;
  Napi::ObjectReference close_promise_;
  LinkChanges link_changes_;
  std::map<fabric::MoveStep, Deferred> steps_;  // that are under way
  bool ended_ = false;
  std::optional<Error> reason_;
  fabric::QueuePairInfo last_info_;
  Counts last_counts_;
};

}  // namespace rdma_migrate::bindings
