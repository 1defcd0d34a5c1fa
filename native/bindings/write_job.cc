#include "bindings/write_job.h"

#include <utility>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/dirty_bindings.h"
#include "bindings/errors.h"
#include "bindings/memory_bindings.h"

namespace rdma_migrate::bindings {

namespace {

// Packed: offset and length of each span; lkey and rkey of each, or of all.
std::vector<engine::WriteSpan> spans_from_js(const Napi::Object& job, const memory::Mapping& mapping,
                                             uint64_t pages) {
  const auto ranges = u64_array(job.Get("spans"), "spans");
  const auto keys = u32_array(job.Get("keys"), "keys");
  const size_t count = ranges.size() / 2;
  const uint64_t page_size = mapping.page_size();
  bool good = ranges.size() % 2 == 0 && (keys.size() == 2 || keys.size() == ranges.size());
  std::vector<engine::WriteSpan> spans;
  spans.reserve(count);
  for (size_t at = 0; good && at < count; ++at) {
    const uint64_t offset = ranges[2 * at], length = ranges[2 * at + 1];
    good = offset <= mapping.length() && length <= mapping.length() - offset && offset % page_size == 0 &&
           length % page_size == 0 && pages >= (offset + length) / page_size;
    const size_t key = keys.size() == 2 ? 0 : 2 * at;
    if (good) spans.push_back({offset, length, keys[key], keys[key + 1]});
  }
  if (good) return spans;
  throw to_js_error(job.Env(),
                    Error("INVALID_ARGUMENT",
                          "write: the spans leave the mapping or its bitmap, or do not match their keys"));
}

}  // namespace

engine::WriteJob write_job_from_js(const Napi::Object& job) {
  const Napi::Env env = job.Env();
  const auto mapping = mapping_from_js(job.Get("mapping"));
  engine::WriteJob work;
  work.page_size = mapping->page_size();
  work.bitmap = bitmap_from_js(job.Get("bitmap"));
  work.spans = spans_from_js(job, *mapping, work.bitmap->pages());
  const Napi::Value digests = job.Get("digests");
  if (!digests.IsUndefined()) {
    work.digests = digests_from_js(digests);
    if (work.digests->page_size() != work.page_size || work.digests->pages() != work.bitmap->pages()) {
      throw to_js_error(env, Error("INVALID_ARGUMENT", "write: the digests are those of another block"));
    }
  }
  work.local_address = mapping->address();
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
