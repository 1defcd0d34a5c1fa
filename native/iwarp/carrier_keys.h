// What the carriers of a protected queue pair that outlives them are protected with: each has keys of its
// own, and who has seen all of them cannot tell the next one's, nor attach.
#pragma once

#include <algorithm>
#include <array>

#include "crypto/hmac.h"
#include "crypto/key_schedule.h"
#include "fabric/protection.h"
#include "iwarp/byte_order.h"
#include "iwarp/resume_frames.h"

namespace rdma_migrate::iwarp {

class CarrierKeys {
 public:
  // first: of the first carrier, which is not kept. Throws Error CRYPTO_UNAVAILABLE, OUT_OF_MEMORY.
  explicit CarrierKeys(const fabric::Protection& first)
      : send_(crypto::resumption_secret(first.send)),
        receive_(crypto::resumption_secret(first.receive)),
        records_per_key_(first.records_per_key) {}

  // The key of every MAC, in the place of one that has travelled in the clear. dials: this end is who
  // attaches.
  Ticket ticket(bool dials) const {
    const crypto::Secret& from = dials ? send_ : receive_;
    const crypto::Secret& to = dials ? receive_ : send_;
    const crypto::Mac mac = crypto::hmac_sha256(from.view(), to.view());
    return Ticket(mac);
  }
  // Of the carrier that was agreed on with these two ATTACHes.
  fabric::Protection protection(const ResumeContext& context) const {
    std::array<uint8_t, 8 + 2 * sizeof(Bits128)> data;
    store_be64(data.data(), context.epoch);
    std::copy(context.asked.begin(), context.asked.end(), data.begin() + 8);
    std::copy(context.answered.begin(), context.answered.end(), data.begin() + 8 + sizeof(Bits128));
    return {crypto::carrier_secret(send_, data), crypto::carrier_secret(receive_, data), records_per_key_};
  }

 private:
  crypto::Secret send_;
  crypto::Secret receive_;
  uint64_t records_per_key_;
};

}  // namespace rdma_migrate::iwarp
