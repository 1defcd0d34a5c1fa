// AES-256-GCM and the key schedule against published and independent vectors. RFC 8448's records are of
// TLS_AES_128_GCM_SHA256, which is never used here: the vectors of the key schedule were made with Python's
// hmac and hashlib.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <new>

#include "crypto/aead.h"
#include "crypto/key_schedule.h"
#include "error.h"
#include "support/hex.h"
#include "support/libcrypto.h"

using namespace rdma_migrate;
using namespace rdma_migrate::test;
using crypto::Aead;
using fabric::Bytes;

namespace {

template <size_t Size>
crypto::WipedBytes<Size> wiped(const std::string& digits) {
  const Bytes bytes = unhex(digits);
  REQUIRE(bytes.size() == Size);
  return crypto::WipedBytes<Size>(std::span<const uint8_t, Size>(bytes.data(), Size));
}

struct Vector {
  const char* name;
  std::string key, iv, additional, plaintext, ciphertext, tag;
};

// McGrew and Viega, "The Galois/Counter Mode of Operation", which NIST's SP 800-38D is of.
const Vector kVectors[] = {
    {"test case 13", std::string(64, '0'), std::string(24, '0'), "", "", "",
     "530f8afbc74536b9a963b4f1c4cb738b"},
    {"test case 14", std::string(64, '0'), std::string(24, '0'), "", std::string(32, '0'),
     "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
    {"test case 16", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aed"
     "f5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e"
     "6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

struct Sealed {
  Bytes ciphertext;
  std::array<uint8_t, crypto::kTagSize> tag;
};

Sealed seal(Aead& aead, uint64_t sequence, const Bytes& additional, Bytes data) {
  Sealed sealed;
  aead.seal(sequence, additional, data, sealed.tag);
  sealed.ciphertext = std::move(data);
  return sealed;
}

}  // namespace

TEST_CASE("AES-256-GCM gives the ciphertexts and tags of its specification") {
  REQUIRE(has_libcrypto);
  for (const Vector& vector : kVectors) {
    CAPTURE(vector.name);
    Aead sealer(Aead::Use::kSeal, wiped<32>(vector.key), wiped<12>(vector.iv));
    const Bytes additional = unhex(vector.additional);
    const Sealed sealed = seal(sealer, 0, additional, unhex(vector.plaintext));
    CHECK(sealed.ciphertext == unhex(vector.ciphertext));
    CHECK(Bytes(sealed.tag.begin(), sealed.tag.end()) == unhex(vector.tag));
    Aead opener(Aead::Use::kOpen, wiped<32>(vector.key), wiped<12>(vector.iv));
    Bytes opened(sealed.ciphertext.size());
    CHECK(opener.open(0, additional, sealed.ciphertext, sealed.tag, opened.data()));
    CHECK(opened == unhex(vector.plaintext));
  }
}

TEST_CASE("the sequence number is in the nonce") {
  const Vector& vector = kVectors[2];
  Aead sealer(Aead::Use::kSeal, wiped<32>(vector.key), wiped<12>(vector.iv));
  // The last bytes of the IV are 0xdecaf888: with this sequence the nonce is that of an IV that has 0 there.
  Aead other(Aead::Use::kSeal, wiped<32>(vector.key), wiped<12>("cafebabefacedbad00000000"));
  const Bytes text = unhex(vector.plaintext);
  CHECK(seal(sealer, 0xdecaf888, {}, text).ciphertext == seal(other, 0, {}, text).ciphertext);
  CHECK(seal(sealer, 1, {}, text).ciphertext != seal(sealer, 2, {}, text).ciphertext);
  Aead high(Aead::Use::kSeal, wiped<32>(vector.key), wiped<12>("cafebabe0000000000000000"));
  CHECK(seal(high, 0xfacedbaddecaf888, {}, text).ciphertext == seal(sealer, 0, {}, text).ciphertext);
}

TEST_CASE("what has been changed anywhere does not open, and leaves nothing behind") {
  const Vector& vector = kVectors[2];
  Aead sealer(Aead::Use::kSeal, wiped<32>(vector.key), wiped<12>(vector.iv));
  Aead opener(Aead::Use::kOpen, wiped<32>(vector.key), wiped<12>(vector.iv));
  const Bytes additional = unhex(vector.additional);
  const Sealed good = seal(sealer, 7, additional, unhex(vector.plaintext));
  Bytes out(good.ciphertext.size());
  const auto opens = [&](uint64_t sequence, const Bytes& with, const Sealed& sealed) {
    out.assign(out.size(), 0xee);
    const bool opened = opener.open(sequence, with, sealed.ciphertext, sealed.tag, out.data());
    CHECK(out == (opened ? unhex(vector.plaintext) : Bytes(out.size(), 0)));
    return opened;
  };
  for (size_t bit = 0; bit < good.ciphertext.size() * 8; bit += 5) {
    Sealed bad = good;
    bad.ciphertext[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK_FALSE(opens(7, additional, bad));
  }
  for (size_t bit = 0; bit < crypto::kTagSize * 8; ++bit) {
    Sealed bad = good;
    bad.tag[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK_FALSE(opens(7, additional, bad));
  }
  CHECK_FALSE(opens(8, additional, good));
  CHECK_FALSE(opens(7, {}, good));
  CHECK(opens(7, additional, good));  // a failure spoils nothing
}

TEST_CASE("keys follow of a secret as RFC 8446 has it, with SHA-384") {
  Bytes bytes(48);
  for (size_t at = 0; at < bytes.size(); ++at) bytes[at] = static_cast<uint8_t>(at);
  const crypto::Secret secret(std::span<const uint8_t, 48>(bytes.data(), 48));
  const crypto::TrafficKeys keys = crypto::traffic_keys(secret);
  const auto view = [](auto span) { return Bytes(span.begin(), span.end()); };
  CHECK(view(keys.key.view()) == unhex("6877d022f1c61d24ebb7487c16752d9a4798e40431c75b39320e537c90e23225"));
  CHECK(view(keys.iv.view()) == unhex("42822531a0fe88648fc09e9f"));
  CHECK(view(crypto::next_secret(secret).view()) ==
        unhex("401331b63e9d59f202e8f041042d9516f4cd7fa2e2ee14631d3b49fc340d7af37fc2c0c9f252d8036f81ec5b85cbe5"
              "db"));
}

TEST_CASE("wiped bytes are gone from their place") {
  alignas(crypto::Secret) uint8_t place[sizeof(crypto::Secret)];
  std::memset(place, 0xaa, sizeof place);
  auto* secret = new (place) crypto::Secret;
  std::memset(secret->view().data(), 0x55, secret->view().size());
  std::destroy_at(secret);
  const uint8_t* bytes = place;
  asm volatile("" : : "r"(bytes) : "memory");
  for (const uint8_t byte : place) CHECK(byte == 0);
}
