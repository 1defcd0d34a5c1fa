#include "bindings/memory_bitmap.h"

#include <string>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/memory_bindings.h"
#include "bindings/memory_coverage.h"

namespace rdma_migrate::bindings {
namespace {

constexpr napi_type_tag kBitmapTag = {0x8f1c2a6b5d3e4f70, 0xa1b2947c6e0d5f38};

}  // namespace

Napi::Function BitmapBinding::define(Napi::Env env) {
  return DefineClass(env, "NativeBitmap",
                     {
                         InstanceMethod<&BitmapBinding::set_range>("setRange"),
                         InstanceMethod<&BitmapBinding::clear_range>("clearRange"),
                         InstanceMethod<&BitmapBinding::count>("count"),
                         InstanceMethod<&BitmapBinding::shares>("shares"),
                         InstanceAccessor<&BitmapBinding::get_pages>("pages"),
                     });
}

Napi::Object BitmapBinding::create(const Napi::Function& bitmap_class, const Napi::Value& pages) {
  auto bitmap = std::make_shared<memory::Bitmap>(page_number(pages, "pages"));
  const Napi::Object object = bitmap_class.New({});
  Unwrap(object)->bitmap_ = std::move(bitmap);
  return object;
}

BitmapBinding::BitmapBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<BitmapBinding>(info) {
  info.This().As<Napi::Object>().TypeTag(&kBitmapTag);
}

memory::Bitmap& BitmapBinding::bitmap(const Napi::CallbackInfo& info) const {
  if (!bitmap_)
    throw Napi::TypeError::New(info.Env(), "NativeBitmap cannot be constructed: use createBitmap()");
  return *bitmap_;
}

void BitmapBinding::set_range(const Napi::CallbackInfo& info) {
  guarded(info.Env(),
          [&] { bitmap(info).set_range(page_number(info[0], "firstPage"), page_number(info[1], "count")); });
}

void BitmapBinding::clear_range(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    bitmap(info).clear_range(page_number(info[0], "firstPage"), page_number(info[1], "count"));
  });
}

Napi::Value BitmapBinding::count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(bitmap(info).count()));
}

Napi::Value BitmapBinding::shares(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return shares_to_js(info.Env(), bitmap(info).shares(page_number(info[0], "pagesPerCell")));
  });
}

Napi::Value BitmapBinding::get_pages(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(bitmap(info).pages()));
}

std::shared_ptr<memory::Bitmap> bitmap_from_js(Napi::Value value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kBitmapTag)) {
    auto bitmap = BitmapBinding::Unwrap(value.As<Napi::Object>())->bitmap_;
    if (bitmap) return bitmap;
  }
  throw to_js_error(value.Env(), Error("INVALID_ARGUMENT", "expected a bitmap of createBitmap() for bitmap"));
}

}  // namespace rdma_migrate::bindings
