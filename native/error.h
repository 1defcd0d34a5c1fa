// Every error that the native core raises or reports. The code is stable and reaches JavaScript as
// `error.code`.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace rdma_migrate {

// code: one of the codes of lib/errors.ts, such as "CONNECTION_REFUSED". message: a sentence that says what
// happened, with numbers and addresses, and what to do. sys_errno: the errno that caused it, or 0.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message, int sys_errno = 0)
      : std::runtime_error(sys_errno == 0 ? message : message + ": " + std::strerror(sys_errno)),
        code_(std::move(code)),
        sys_errno_(sys_errno) {}

  const std::string& code() const noexcept { return code_; }
  int sys_errno() const noexcept { return sys_errno_; }
  // REJECTED: what the peer said with it, for whoever knows its protocol.
  const std::vector<uint8_t>& private_data() const noexcept { return private_data_; }
  Error with_private_data(std::vector<uint8_t> data) && {
    private_data_ = std::move(data);
    return std::move(*this);
  }

 private:
  std::string code_;
  int sys_errno_;
  std::vector<uint8_t> private_data_;
};

}  // namespace rdma_migrate
