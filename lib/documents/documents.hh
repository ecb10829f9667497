#pragma once
// What a run of the model starts from: texts with names, from files, pipes and JSON Lines.

#include "kv/base/file.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct Document {
  std::string id;    // file name, "-", or the object's "id"
  std::string text;  // empty when `tokens` is given
  std::optional<std::vector<std::int32_t>> tokens;
  std::string fields_json = "{}";  // the object's other fields, for META's document
  std::string place;               // "docs.jsonl: line 12", for messages
};

// A whole file as one document. Throws kInput over 1 GiB.
Document read_text(Input input);

// Lines of a file or pipe, which may come one by one. Throws kInput for one over 256 MiB.
class LineReader {
 public:
  explicit LineReader(Input input);
  // Without its newline; empty lines are skipped.
  std::optional<std::string> next();
  std::string place() const;  // "docs.jsonl: line 12", of the last one
  std::uint64_t number() const { return line_; }
  // How much of a regular file is read, 0 to 1; 0 for a pipe.
  double share() const;

 private:
  std::optional<std::string> next_line();

  Input input_;
  Bytes buffer_;
  std::size_t begin_ = 0, end_ = 0;  // unread bytes of the buffer
  std::uint64_t line_ = 0, read_bytes_ = 0;
  bool at_end_ = false;
};

// One object a line: {"id": "...", "text": "..."} or {"id": "...", "tokens": [1, 2]}. "id" may be
// a string or an integer; without one it is the line's number. Empty lines are skipped. Throws
// kInput with file and line: not an object, both or neither of text and tokens, a token that is
// no int32, a line over 256 MiB, nesting deeper than 64.
class JsonlReader {
 public:
  explicit JsonlReader(Input input);
  std::optional<Document> next();
  double share() const { return lines_.share(); }

 private:
  LineReader lines_;
};

// A file name (without extension) for an id, the same for the same id and different for different
// ones: letters, digits, '.', '_' and '-' as they are, other bytes as %XX, a leading '.' too; ids
// that would be longer than 200 bytes end in '~' and the first 16 digits of their fingerprint.
std::string file_name_of(const std::string& id);

// "i/n" with 1 <= i <= n: this run takes documents i, i + n, i + 2n ... of the input.
struct Shard {
  std::uint64_t index = 1, count = 1;
  bool takes(std::uint64_t document) const { return document % count == index - 1; }
};
// Throws kUsage.
Shard parse_shard(const std::string& text);

}  // namespace kv
