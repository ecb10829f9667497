#include "kv/gguf/gguf.hh"

#include <array>
#include <cstring>
#include <limits>

namespace kv {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint64_t kMaxKeys = 1u << 16;
constexpr std::uint64_t kMaxTensors = 1u << 16;
constexpr std::uint64_t kMaxTextBytes = 64u << 20;
constexpr std::uint64_t kMaxElements = 1u << 26;
constexpr std::uint32_t kMaxDimensions = 4;
constexpr std::uint64_t kMaxAlignment = 1u << 20;

std::string_view read_text(ByteReader& reader, const std::string& name) {
  const auto size = reader.get<std::uint64_t>();
  if (size > kMaxTextBytes) {
    fail_input("{}: byte {}: a string of {} bytes, over the limit", name, reader.position(), size);
  }
  return as_text(reader.take(static_cast<std::size_t>(size)));
}

}  // namespace

GgmlBlock ggml_block(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return {1, 4};
    case GgmlType::kF16:
    case GgmlType::kBF16:
      return {1, 2};
    case GgmlType::kQ4_0:
      return {32, 18};
    case GgmlType::kQ4_1:
      return {32, 20};
    case GgmlType::kQ5_0:
      return {32, 22};
    case GgmlType::kQ5_1:
      return {32, 24};
    case GgmlType::kQ8_0:
      return {32, 34};
    case GgmlType::kQ4_K:
      return {256, 144};
    case GgmlType::kQ5_K:
      return {256, 176};
    case GgmlType::kQ6_K:
      return {256, 210};
  }
  return {};
}

GgufFile::GgufFile(const std::string& path) : name_(path) {
  const Input input = Input::open(path);
  if (!input.size_bytes()) fail_input("{}: a model must be a regular file", path);
  mapping_ = input.map();
  parse();
}

GgufFile::GgufFile(Mapping mapping, std::string name)
    : mapping_(std::move(mapping)), name_(std::move(name)) {
  parse();
}

bool GgufFile::is_integer(Kind kind) {
  return kind <= Kind::kI32 || kind == Kind::kU64 || kind == Kind::kI64;
}

static std::size_t scalar_bytes(std::uint32_t kind) {
  static constexpr std::array<std::uint8_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kind < kSizes.size() ? kSizes[kind] : 0;
}

GgufFile::Value GgufFile::parse_value(ByteReader& reader, std::string_view key) {
  Value value;
  value.kind = Kind{reader.get<std::uint32_t>()};
  if (value.kind == Kind::kText) {
    value.bytes = as_bytes(read_text(reader, name_));
    return value;
  }
  if (value.kind != Kind::kArray) {
    const std::size_t size = scalar_bytes(static_cast<std::uint32_t>(value.kind));
    if (size == 0) fail_input("{}: key '{}' has an unknown type", name_, key);
    value.bytes = reader.take(size);
    return value;
  }
  value.element = Kind{reader.get<std::uint32_t>()};
  value.count = reader.get<std::uint64_t>();
  if (value.count > kMaxElements) {
    fail_input("{}: key '{}' has {} elements, over the limit", name_, key, value.count);
  }
  if (value.element == Kind::kText) {
    const std::size_t begin = reader.position();
    for (std::uint64_t i = 0; i < value.count; ++i) read_text(reader, name_);
    value.bytes = bytes().subspan(begin, reader.position() - begin);
    return value;
  }
  const std::size_t size = scalar_bytes(static_cast<std::uint32_t>(value.element));
  if (size == 0) fail_input("{}: key '{}' is an array of an unsupported type", name_, key);
  value.bytes = reader.take(static_cast<std::size_t>(value.count) * size);
  return value;
}

void GgufFile::parse() {
  ByteReader reader(bytes(), name_);
  if (reader.remaining() < 4 || reader.get<std::uint32_t>() != kMagic) {
    fail_input("{}: not a GGUF file", name_);
  }
  const auto version = reader.get<std::uint32_t>();
  if (version != 2 && version != 3) {
    fail_input("{}: GGUF version {} is not supported (2 and 3 are, little-endian)", name_, version);
  }
  const auto tensor_count = reader.get<std::uint64_t>();
  const auto key_count = reader.get<std::uint64_t>();
  if (tensor_count > kMaxTensors || key_count > kMaxKeys) {
    fail_input("{}: {} tensors and {} keys, over the limit", name_, tensor_count, key_count);
  }
  for (std::uint64_t i = 0; i < key_count; ++i) {
    const std::string_view key = read_text(reader, name_);
    if (!values_.emplace(key, parse_value(reader, key)).second) {
      fail_input("{}: key '{}' stands twice", name_, key);
    }
  }
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    GgufTensor tensor;
    tensor.name = read_text(reader, name_);
    const auto dimensions = reader.get<std::uint32_t>();
    if (dimensions < 1 || dimensions > kMaxDimensions) {
      fail_input("{}: tensor '{}' has {} dimensions", name_, tensor.name, dimensions);
    }
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto extent = reader.get<std::uint64_t>();
      if (extent == 0 || extent > (1u << 30)) {
        fail_input("{}: tensor '{}' has an extent of {}", name_, tensor.name, extent);
      }
      tensor.shape.push_back(static_cast<std::int64_t>(extent));
    }
    tensor.type = GgmlType{reader.get<std::uint32_t>()};
    offsets.push_back(reader.get<std::uint64_t>());
    tensors_.push_back(std::move(tensor));
  }
  const std::int64_t alignment = integer("general.alignment").value_or(32);
  if (alignment < 1 || static_cast<std::uint64_t>(alignment) > kMaxAlignment) {
    fail_input("{}: alignment {} is not supported", name_, alignment);
  }
  const auto unit = static_cast<std::size_t>(alignment);
  const std::size_t data = (reader.position() + unit - 1) / unit * unit;
  if (tensor_count > 0 && data > bytes().size()) fail_input("{}: no tensor data", name_);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    const GgmlBlock block = ggml_block(tensor.type);
    if (block.count == 0) continue;  // its bytes stay empty: refused by whoever needs them
    std::uint64_t count = 1;
    for (const std::int64_t extent : tensor.shape) {
      count *= static_cast<std::uint64_t>(extent);  // at most 2^30 each, checked before the next
      if (count > (1ull << 34)) fail_input("{}: tensor '{}' is too large", name_, tensor.name);
    }
    if (tensor.shape.front() % block.count != 0) {
      fail_input("{}: tensor '{}' has rows of no whole number of blocks", name_, tensor.name);
    }
    const std::uint64_t size = count / static_cast<std::uint64_t>(block.count) * block.size_bytes;
    const std::uint64_t room = bytes().size() - data;
    if (offsets[i] % unit != 0 || offsets[i] > room || size > room - offsets[i]) {
      fail_input("{}: tensor '{}' lies outside the file; it is cut short or damaged", name_,
                 tensor.name);
    }
    tensor.bytes = bytes().subspan(data + static_cast<std::size_t>(offsets[i]),
                                   static_cast<std::size_t>(size));
  }
}

const GgufFile::Value* GgufFile::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void GgufFile::wrong_kind(std::string_view key) const {
  fail_input("{}: key '{}' has a value of the wrong type", name_, key);
}

std::int64_t GgufFile::integer_of(Kind kind, const std::byte* at) {
  const auto as = [at]<typename T>(T value) {
    std::memcpy(&value, at, sizeof(T));
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      return value > INT64_MAX ? std::numeric_limits<std::int64_t>::max()
                               : static_cast<std::int64_t>(value);
    } else {
      return static_cast<std::int64_t>(value);
    }
  };
  switch (kind) {
    case Kind::kU8:
      return as(std::uint8_t{});
    case Kind::kI8:
      return as(std::int8_t{});
    case Kind::kU16:
      return as(std::uint16_t{});
    case Kind::kI16:
      return as(std::int16_t{});
    case Kind::kU32:
      return as(std::uint32_t{});
    case Kind::kI32:
      return as(std::int32_t{});
    case Kind::kU64:
      return as(std::uint64_t{});
    default:
      return as(std::int64_t{});
  }
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (value->kind != Kind::kText) wrong_kind(key);
  return as_text(value->bytes);
}

std::optional<std::int64_t> GgufFile::integer(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (!is_integer(value->kind)) wrong_kind(key);
  return integer_of(value->kind, value->bytes.data());
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (is_integer(value->kind)) {
    return static_cast<double>(integer_of(value->kind, value->bytes.data()));
  }
  if (value->kind == Kind::kF32) {
    float f = 0;
    std::memcpy(&f, value->bytes.data(), sizeof(f));
    return f;
  }
  if (value->kind != Kind::kF64) wrong_kind(key);
  double d = 0;
  std::memcpy(&d, value->bytes.data(), sizeof(d));
  return d;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (value->kind != Kind::kBool) wrong_kind(key);
  return value->bytes[0] != std::byte{0};
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return {};
  if (value->kind != Kind::kArray || value->element != Kind::kText) wrong_kind(key);
  std::vector<std::string_view> out;
  out.reserve(static_cast<std::size_t>(value->count));
  ByteReader reader(value->bytes, name_);
  for (std::uint64_t i = 0; i < value->count; ++i) out.push_back(read_text(reader, name_));
  return out;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return {};
  if (value->kind != Kind::kArray || !is_integer(value->element)) wrong_kind(key);
  const std::size_t size = scalar_bytes(static_cast<std::uint32_t>(value->element));
  std::vector<std::int64_t> out(static_cast<std::size_t>(value->count));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = integer_of(value->element, value->bytes.data() + i * size);
  }
  return out;
}

std::vector<float> GgufFile::numbers(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return {};
  if (value->kind != Kind::kArray || value->element != Kind::kF32) wrong_kind(key);
  std::vector<float> out(static_cast<std::size_t>(value->count));
  if (!out.empty()) std::memcpy(out.data(), value->bytes.data(), value->bytes.size());
  return out;
}

}  // namespace kv
