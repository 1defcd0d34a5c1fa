// A domain's hold on its device: the protection domain that all of its queue pairs and memory share.
#pragma once

#include <string>

#include "verbs/cm_id.h"
#include "verbs/freer.h"

namespace rdma_migrate::verbs {

class Device {
 public:
  // first: an id that is bound to the device. Throws Error: CONNECT_FAILED.
  explicit Device(const CmId& first);
  Device(const Device&) = delete;

  ibv_context* context() const { return context_; }
  ibv_pd* pd() const { return pd_.get(); }
  const std::string& name() const { return name_; }
  uint64_t max_mr_size() const { return limits_.max_mr_size; }
  uint32_t max_qp_wr() const { return static_cast<uint32_t>(limits_.max_qp_wr < 0 ? 0 : limits_.max_qp_wr); }

  Error error(const char* what, int error_number) const;

 private:
  // librdmacm has one context for each device, and closes that of a device that was removed with the last id
  // that is bound to it: the protection domain must not outlive it, and this id goes after it.
  CmId anchor_;
  ibv_context* const context_;
  const std::string name_;
  ibv_device_attr limits_{};
  ProtectionDomain pd_;
};

}  // namespace rdma_migrate::verbs
