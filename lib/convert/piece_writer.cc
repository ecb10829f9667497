#include "piece_writer.hh"

#include <algorithm>
#include <stdexcept>

namespace kv {

void PieceWriter::write(Output& output, std::uint64_t at, std::size_t size, std::size_t unit,
                        const Fill& fill) {
  constexpr std::size_t kPieceBytes = 1u << 18;
  const std::size_t piece = std::max<std::size_t>(1, kPieceBytes / unit) * unit;
  const auto made = [&](std::size_t begin) -> ByteView {
    thread_local Bytes buffer;
    buffer.resize(std::max(buffer.size(), piece));
    const std::span<std::byte> to = std::span(buffer).first(std::min(piece, size - begin));
    fill(begin, to);
    return to;
  };
  if (output.has_places()) {
    // The system lets one thread write into a file at a time; others would wait busily.
    std::mutex writing;
    workers_.each((size + piece - 1) / piece, [&](std::size_t i) {
      const ByteView bytes = made(i * piece);
      const std::lock_guard lock(writing);
      output.write_at(at + i * piece, bytes);
    });
    return;
  }
  if (at != output.written_bytes()) throw std::logic_error("PieceWriter: out of order");
  for (std::size_t begin = 0; begin < size; begin += piece) output.write(made(begin));
}

}  // namespace kv
