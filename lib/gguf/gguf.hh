#pragma once
// The header of a GGUF file (versions 2 and 3): metadata and tensor table over a mapping. The
// format: ggml's docs/gguf.md. Nothing is copied; views live as long as the file object.

#include "kv/base/file.hh"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

// Numbers of ggml's types, as they stand in files; only those that can be read.
enum class GgmlType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

// Elements and bytes of a block; plain types have blocks of one. 0 elements: not supported.
struct GgmlBlock {
  std::int64_t count = 0;
  std::size_t size_bytes = 0;
};
GgmlBlock ggml_block(GgmlType type);

struct GgufTensor {
  std::string_view name;
  GgmlType type{};
  std::vector<std::int64_t> shape;  // ggml's order: the contiguous dimension first
  ByteView bytes;
};

class GgufFile {
 public:
  // Throws kInput, with the byte: no GGUF, damaged, big-endian, over the limits (65,536 keys,
  // 65,536 tensors, 4 dimensions, strings of 64 MiB, 2^26 array elements). Types that ggml_block()
  // does not know are refused when the tensor's bytes are needed, not here.
  explicit GgufFile(const std::string& path);
  GgufFile(Mapping mapping, std::string name);

  const std::string& name() const { return name_; }
  ByteView bytes() const { return mapping_.bytes(); }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  bool has(std::string_view key) const { return values_.contains(key); }
  // The value of a key of the right kind; nothing when absent. Throws kInput when of another kind.
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<std::int64_t> integer(std::string_view key) const;  // any integer type
  std::optional<double> number(std::string_view key) const;         // any integer or float type
  std::optional<bool> boolean(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;  // empty when absent
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key) const;

 private:
  // gguf_metadata_value_type.
  enum class Kind : std::uint32_t {
    kU8,
    kI8,
    kU16,
    kI16,
    kU32,
    kI32,
    kF32,
    kBool,
    kText,
    kArray,
    kU64,
    kI64,
    kF64
  };
  struct Value {
    Kind kind{};
    Kind element{};  // of an array
    std::uint64_t count = 1;
    ByteView bytes;  // a text's characters; an array's elements as in the file
  };
  void parse();
  Value parse_value(ByteReader& reader, std::string_view key);
  const Value* find(std::string_view key) const;
  [[noreturn]] void wrong_kind(std::string_view key) const;
  static std::int64_t integer_of(Kind kind, const std::byte* at);
  static bool is_integer(Kind kind);

  Mapping mapping_;
  std::string name_;
  std::map<std::string_view, Value> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace kv
