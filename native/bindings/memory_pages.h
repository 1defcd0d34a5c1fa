// NativePageReader and NativePageWriter of lib/native/memory.ts.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "bindings/memory_lease.h"
#include "memory/page_reader.h"
#include "memory/page_writer.h"

namespace rdma_migrate::bindings {

// A reader or writer, the mappings it works on, and whether a call is under way.
template <typename Native>
struct PageJob {
  PageJob(std::vector<memory::PageBlock> blocks, std::vector<std::shared_ptr<MappingOwner>> mappings)
      : native(std::move(blocks)), owners(std::move(mappings)) {}

  Native native;
  std::vector<std::shared_ptr<MappingOwner>> owners;
  bool busy = false;  // JavaScript thread only
};

class PageReaderBinding final : public Napi::ObjectWrap<PageReaderBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const Napi::Function& reader_class, const Napi::Value& blocks);

  // What `new` of the class gives has no reader and is refused everywhere.
  explicit PageReaderBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PageReaderBinding>(info) {}

 private:
  Napi::Value push(const Napi::CallbackInfo& info);
  Napi::Value missing(const Napi::CallbackInfo& info);
  Napi::Value get_pages_read(const Napi::CallbackInfo& info);
  Napi::Value get_zero_pages(const Napi::CallbackInfo& info);

  std::shared_ptr<PageJob<memory::PageReader>> job_;
};

class PageWriterBinding final : public Napi::ObjectWrap<PageWriterBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(const Napi::Function& writer_class, const Napi::Value& blocks);

  // What `new` of the class gives has no writer and is refused everywhere.
  explicit PageWriterBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PageWriterBinding>(info) {}

 private:
  Napi::Value fill(const Napi::CallbackInfo& info);
  Napi::Value get_pages_written(const Napi::CallbackInfo& info);
  Napi::Value get_zero_pages(const Napi::CallbackInfo& info);

  std::shared_ptr<PageJob<memory::PageWriter>> job_;
};

}  // namespace rdma_migrate::bindings
