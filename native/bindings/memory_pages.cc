#include "bindings/memory_pages.h"

#include <string>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/memory_coverage.h"
#include "bindings/memory_mapping.h"

namespace rdma_migrate::bindings {
namespace {

// Everything one call needs until it has settled: no second call, the mappings, and the buffer's memory.
template <typename Native>
class Call {
 public:
  Call(std::shared_ptr<PageJob<Native>> job, const Napi::Uint8Array& buffer)
      : job_(std::move(job)), buffer_(Napi::Persistent(buffer.As<Napi::Object>())) {
    if (job_->busy) throw Error("INVALID_ARGUMENT", "one call at a time: await the one before");
    for (const auto& owner : job_->owners) leases_.push_back(owner->lease());
    job_->busy = true;
    active_ = true;
  }
  Call(Call&& other) noexcept
      : job_(std::move(other.job_)),
        buffer_(std::move(other.buffer_)),
        leases_(std::move(other.leases_)),
        active_(std::exchange(other.active_, false)) {}
  Call& operator=(Call&&) = delete;
  ~Call() {
    if (active_) job_->busy = false;
  }

 private:
  std::shared_ptr<PageJob<Native>> job_;
  Napi::ObjectReference buffer_;
  std::vector<MappingOwner::Lease> leases_;
  bool active_ = false;
};

template <typename Native>
std::shared_ptr<PageJob<Native>> make_job(const Napi::Value& value, bool to_be_written) {
  if (!value.IsArray()) throw bad_argument(value.Env(), "blocks", "an array of { name, mapping }");
  const auto list = value.As<Napi::Array>();
  std::vector<std::shared_ptr<MappingOwner>> owners;
  std::vector<std::pair<std::string, std::shared_ptr<memory::Mapping>>> blocks;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value item = list.Get(i);
    if (!item.IsObject()) throw bad_argument(value.Env(), "blocks", "an array of { name, mapping }");
    const auto block = item.As<Napi::Object>();
    owners.push_back(mapping_owner_from_js(block.Get("mapping")));
    blocks.emplace_back(text_property(block, "name"), owners.back()->mapping());
  }
  return std::make_shared<PageJob<Native>>(memory::make_page_blocks(blocks, to_be_written),
                                           std::move(owners));
}

template <typename Job>
void require(const Job& job) {
  if (!job)
    throw Error("INVALID_ARGUMENT",
                "use createPageReader() and createPageWriter(): the classes cannot be constructed");
}

Napi::Uint8Array buffer_argument(const Napi::CallbackInfo& info, const char* name) {
  bytes_argument(info, 0, name);
  return info[0].As<Napi::Uint8Array>();
}

Napi::Value big(const Napi::CallbackInfo& info, uint64_t number) {
  return Napi::BigInt::New(info.Env(), number);
}

}  // namespace

Napi::Function PageReaderBinding::define(Napi::Env env) {
  return DefineClass(env, "NativePageReader",
                     {
                         InstanceMethod<&PageReaderBinding::push>("push"),
                         InstanceMethod<&PageReaderBinding::missing>("missing"),
                         InstanceAccessor<&PageReaderBinding::get_pages_read>("pagesRead"),
                         InstanceAccessor<&PageReaderBinding::get_zero_pages>("zeroPages"),
                     });
}

Napi::Object PageReaderBinding::create(const Napi::Function& reader_class, const Napi::Value& blocks) {
  auto job = make_job<memory::PageReader>(blocks, true);
  const Napi::Object object = reader_class.New({});
  Unwrap(object)->job_ = std::move(job);
  return object;
}

Napi::Value PageReaderBinding::push(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    require(job_);
    const auto array = buffer_argument(info, "bytes");
    const uint64_t offset = u32_argument(info, 1, "offset");
    if (offset > array.ByteLength()) throw Error("INVALID_ARGUMENT", "push: offset is past the end of bytes");
    const std::span<const uint8_t> bytes(array.Data() + offset, array.ByteLength() - offset);
    return run_async(
        info.Env(), WorkLane::kBulk, [job = job_, bytes] { return job->native.push(bytes); },
        [call = Call(job_, array)](Napi::Env env,
                                   const memory::PageReader::Progress& progress) -> Napi::Value {
          auto value = Napi::Object::New(env);
          value.Set("consumed", Napi::Number::New(env, static_cast<double>(progress.consumed)));
          value.Set("done", Napi::Boolean::New(env, progress.done));
          return value;
        });
  });
}

Napi::Value PageReaderBinding::missing(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    require(job_);
    return missing_to_js(info.Env(), job_->native.missing());
  });
}

Napi::Value PageReaderBinding::get_pages_read(const Napi::CallbackInfo& info) {
  return big(info, job_ ? job_->native.pages_read() : 0);
}
Napi::Value PageReaderBinding::get_zero_pages(const Napi::CallbackInfo& info) {
  return big(info, job_ ? job_->native.zero_pages() : 0);
}

Napi::Function PageWriterBinding::define(Napi::Env env) {
  return DefineClass(env, "NativePageWriter",
                     {
                         InstanceMethod<&PageWriterBinding::fill>("fill"),
                         InstanceAccessor<&PageWriterBinding::get_pages_written>("pagesWritten"),
                         InstanceAccessor<&PageWriterBinding::get_zero_pages>("zeroPages"),
                     });
}

Napi::Object PageWriterBinding::create(const Napi::Function& writer_class, const Napi::Value& blocks) {
  auto job = make_job<memory::PageWriter>(blocks, false);
  const Napi::Object object = writer_class.New({});
  Unwrap(object)->job_ = std::move(job);
  return object;
}

Napi::Value PageWriterBinding::fill(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    require(job_);
    auto array = buffer_argument(info, "buffer");
    const std::span<uint8_t> buffer(array.Data(), array.ByteLength());
    return run_async(
        info.Env(), WorkLane::kBulk, [job = job_, buffer] { return job->native.fill(buffer); },
        [call = Call(job_, array)](Napi::Env env, const memory::PageWriter::Filled& filled) -> Napi::Value {
          auto value = Napi::Object::New(env);
          value.Set("length", Napi::Number::New(env, static_cast<double>(filled.length)));
          value.Set("done", Napi::Boolean::New(env, filled.done));
          return value;
        });
  });
}

Napi::Value PageWriterBinding::get_pages_written(const Napi::CallbackInfo& info) {
  return big(info, job_ ? job_->native.pages_written() : 0);
}
Napi::Value PageWriterBinding::get_zero_pages(const Napi::CallbackInfo& info) {
  return big(info, job_ ? job_->native.zero_pages() : 0);
}

}  // namespace rdma_migrate::bindings
