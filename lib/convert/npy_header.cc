#include "npy_header.hh"

#include <array>
#include <charconv>

namespace kv {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint32_t kMaxHeaderBytes = 1u << 16;
constexpr std::size_t kMaxDimensions = 8;

// The header is a literal of a Python dictionary; this is the part of Python that NumPy writes:
// names in quotes, True and False, tuples of whole numbers.
class Literal {
 public:
  Literal(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader header() {
    NpyHeader header;
    bool descr = false, order = false, shape = false;
    need('{');
    while (!takes('}')) {
      const std::string key = quoted();
      need(':');
      if (key == "descr" && !std::exchange(descr, true)) {
        header.descr = quoted();
      } else if (key == "fortran_order" && !std::exchange(order, true)) {
        if (word() != "False") fail_input("{}: is in Fortran's order; give C's", name_);
      } else if (key == "shape" && !std::exchange(shape, true)) {
        header.shape = tuple();
      } else {
        bad();
      }
      if (!takes(',') && !peeks('}')) bad();
    }
    skip();
    if (!text_.empty() || !descr || !order || !shape) bad();
    return header;
  }

 private:
  [[noreturn]] void bad() const { fail_input("{}: not a header of NumPy", name_); }
  void skip() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n')) text_.remove_prefix(1);
  }
  bool peeks(char c) {
    skip();
    return !text_.empty() && text_[0] == c;
  }
  bool takes(char c) {
    if (!peeks(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void need(char c) {
    if (!takes(c)) bad();
  }
  std::string taken(std::size_t n) {
    const std::string part(text_.substr(0, n));
    text_.remove_prefix(n);
    return part;
  }
  std::string quoted() {
    const char quote = peeks('"') ? '"' : '\'';
    need(quote);
    const std::size_t end = text_.find(quote);
    if (end == std::string_view::npos || text_.substr(0, end).find('\\') != std::string_view::npos)
      bad();
    const std::string part = taken(end);
    need(quote);
    return part;
  }
  std::string word() {
    skip();
    std::size_t n = 0;
    while (n < text_.size() && text_[n] >= 'A' && text_[n] <= 'z') ++n;
    return taken(n);
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> numbers;
    need('(');
    while (!takes(')')) {
      skip();
      std::int64_t number = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), number);
      if (error != std::errc() || number < 0 || numbers.size() == kMaxDimensions) bad();
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      numbers.push_back(number);
      if (!takes(',') && !peeks(')')) bad();
    }
    return numbers;
  }

  std::string_view text_;
  const std::string& name_;
};

// 0: not one that is read here.
std::size_t element_size(std::string_view descr) {
  if (descr == "<f4" || descr == "<i4") return 4;
  if (descr == "<i8") return 8;
  return descr == "<f2" ? 2 : 0;
}

}  // namespace

Bytes npy_header(const NpyHeader& header) {
  std::string shape;
  for (const std::int64_t extent : header.shape) shape += fmt::format("{}, ", extent);
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                 header.descr, std::string_view(shape).substr(0, shape.size() - 1));
  constexpr std::size_t kBefore = kMagic.size() + 4, kMultiple = 64;
  text.append((kMultiple - (kBefore + text.size() + 1) % kMultiple) % kMultiple, ' ');
  text += '\n';
  ByteWriter bytes;
  bytes.put_bytes(as_bytes(kMagic));
  bytes.put<std::uint8_t>(1);
  bytes.put<std::uint8_t>(0);
  bytes.put(static_cast<std::uint16_t>(text.size()));
  bytes.put_bytes(as_bytes(text));
  return bytes.take();
}

NpyHeader read_npy_header(ByteReader& reader, const std::string& name) {
  if (as_text(reader.take(kMagic.size())) != kMagic) fail_input("{}: no .npy file", name);
  const auto major = reader.get<std::uint8_t>();
  reader.get<std::uint8_t>();
  if (major < 1 || major > 3) fail_input("{}: .npy version {} is unknown", name, major);
  const std::uint32_t size = major == 1 ? reader.get<std::uint16_t>() : reader.get<std::uint32_t>();
  if (size > kMaxHeaderBytes) fail_input("{}: a header of {} bytes", name, size);
  NpyHeader header = Literal(as_text(reader.take(size)), name).header();
  const std::uint64_t element = element_size(header.descr);
  if (element == 0) fail_input("{}: elements '{}'; give <f4, <f2, <i4 or <i8", name, header.descr);
  // Division, so that nothing wraps.
  std::uint64_t left = reader.remaining() / element;
  std::uint64_t count = 1;
  for (const std::int64_t extent : header.shape) {
    if (extent > 0 && count > left / static_cast<std::uint64_t>(extent)) {
      fail_input("{}: shape [{}] needs more than the {} bytes there are", name,
                 fmt::join(header.shape, ", "), reader.remaining());
    }
    count *= static_cast<std::uint64_t>(extent);
  }
  if (count * element != reader.remaining()) {
    fail_input("{}: shape [{}] and {} bytes do not agree", name, fmt::join(header.shape, ", "),
               reader.remaining());
  }
  return header;
}

std::string npy_descr(DType dtype) {
  if (dtype == DType::kF32) return "<f4";
  if (dtype == DType::kF16) return "<f2";
  fail_usage("NumPy has no {}", dtype_name(dtype));
}

DType npy_dtype(const std::string& descr, const std::string& name) {
  if (descr == "<f4") return DType::kF32;
  if (descr == "<f2") return DType::kF16;
  fail_input("{}: elements '{}'; keys and values are <f4 or <f2", name, descr);
}

}  // namespace kv
