#include "bindings/write_job.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/dirty_bindings.h"
#include "bindings/errors.h"
#include "bindings/memory_bindings.h"

namespace rdma_migrate::bindings {

engine::WriteJob write_job_from_js(const Napi::Object& job) {
  const Napi::Env env = job.Env();
  const auto mapping = mapping_from_js(job.Get("mapping"));
  const uint64_t offset = u64_property(job, "offset");
  engine::WriteJob work;
  work.length = u64_property(job, "length");
  work.page_size = mapping->page_size();
  work.bitmap = bitmap_from_js(job.Get("bitmap"));
  work.first_page = offset / work.page_size;
  if (offset > mapping->length() || work.length > mapping->length() - offset ||
      offset % work.page_size != 0 || work.length % work.page_size != 0 ||
      work.bitmap->pages() < (offset + work.length) / work.page_size) {
    throw to_js_error(env, Error("INVALID_ARGUMENT", "write: the span leaves the mapping or its bitmap"));
  }
  const Napi::Value digests = job.Get("digests");
  if (!digests.IsUndefined()) {
    work.digests = digests_from_js(digests);
    if (work.digests->page_size() != work.page_size || work.digests->pages() != work.bitmap->pages()) {
      throw to_js_error(env, Error("INVALID_ARGUMENT", "write: the digests are those of another block"));
    }
  }
  work.local_address = mapping->address() + offset;
  work.lkey = u32_property(job, "lkey");
  work.rkey = u32_property(job, "rkey");
  work.remote_address = u64_property(job, "remoteAddress");
  work.keep_alive = mapping;
  return work;
}

Napi::Object write_result_to_js(Napi::Env env, const engine::WriteResult& result) {
  auto value = Napi::Object::New(env);
  value.Set("pages", Napi::BigInt::New(env, result.pages));
  value.Set("bytes", Napi::BigInt::New(env, result.bytes));
  value.Set("writes", Napi::BigInt::New(env, result.writes));
  return value;
}

Napi::Object counters_to_js(Napi::Env env, std::shared_ptr<engine::WriterCounters> counters) {
  auto keep = std::make_unique<std::shared_ptr<engine::WriterCounters>>(std::move(counters));
  const auto buffer = Napi::ArrayBuffer::New(env, keep->get(), sizeof(engine::WriterCounters),
                                             [held = keep.get()](Napi::Env, void*) { delete held; });
  keep.release();
  constexpr size_t kCount = sizeof(engine::WriterCounters) / sizeof(uint64_t);
  return Napi::BigUint64Array::New(env, kCount, buffer, 0).As<Napi::Object>();
}

}  // namespace rdma_migrate::bindings
