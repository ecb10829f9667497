#include "sentencepiece_tokenizer.hh"

#include "kv/base/file.hh"
#include "kv/base/hash.hh"
#include "utf8.hh"

#include <sentencepiece_processor.h>

namespace kv {
namespace {

constexpr std::uint64_t kMaxFileBytes = 256u << 20;

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& path) : path_(path) {
    const Bytes bytes = Input::open(path).read_all(kMaxFileBytes);
    const auto status = processor_.LoadFromSerializedProto(as_text(bytes));
    if (!status.ok()) fail_input("{}: no SentencePiece model: {}", path, status.ToString());
    Fingerprint fingerprint;
    fingerprint.add(bytes);
    fingerprint_ = fingerprint.hex();
  }

  std::vector<TokenId> encode(std::string_view text, bool) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode(valid_utf8(text), &ids);
    if (!status.ok()) fail_input("{}: {}", path_, status.ToString());
    return {ids.begin(), ids.end()};
  }

  // Piece by piece, so that the space before a word stays and a text can be put together.
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override {
    std::string out;
    for (const TokenId id : ids) {
      if (id < 0 || id >= static_cast<TokenId>(size())) {
        fail_input("{}: token id {} is not below {}", path_, id, size());
      }
      if (skip_special && processor_.IsControl(id)) continue;
      const std::string& piece = processor_.IdToPiece(id);
      if (processor_.IsByte(id)) {
        out += static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16));
        continue;
      }
      for (std::size_t at = 0; at < piece.size();) {
        const std::size_t begin = at;
        out += next_character(piece, at) == 0x2581 ? " " : piece.substr(begin, at - begin);
      }
    }
    return out;
  }

  std::size_t size() const override { return static_cast<std::size_t>(processor_.GetPieceSize()); }
  std::optional<TokenId> bos() const override { return known(processor_.bos_id()); }
  std::optional<TokenId> eos() const override { return known(processor_.eos_id()); }
  bool adds_bos() const override { return bos().has_value(); }
  std::optional<TokenId> find(std::string_view piece) const override {
    const int id = processor_.PieceToId(piece);
    return processor_.IsUnknown(id) ? std::nullopt : std::optional<TokenId>(id);
  }
  std::string fingerprint() const override { return fingerprint_; }
  ChatTemplate chat_template() const override { return {}; }

 private:
  static std::optional<TokenId> known(int id) {
    return id >= 0 ? std::optional<TokenId>(id) : std::nullopt;
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::string path_, fingerprint_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path) {
  return std::make_unique<SentencePieceTokenizer>(path);
}

}  // namespace kv
