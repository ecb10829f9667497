#pragma once
// Windows of real text for measuring and for calibrating codecs: LongChat conversations and MuSiQue
// passages, parted so that no text is in both splits.

#include "kv/tokenizer/tokenizer.hh"

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

enum class Split { kTest, kCalibration };

// Throws kUsage.
Split parse_split(const std::string& name);

// The distinct conversations of longchat.jsonl (they repeat from prompt to prompt), in order of
// first appearance; every second one is of the test. Throws kInput.
std::vector<std::string> longchat_conversations(const std::string& path, Split split);

// Passages of musique.jsonl in the file's order, none with 12 words in a row of one before it.
// Passages that share 12 words in a row hang together; the largest such group (three quarters of
// all) is for calibration, the others for the test. Throws kInput.
std::vector<std::string> musique_passages(const std::string& path, Split split);

// Fingerprints of all runs of 12 words.
std::vector<std::uint64_t> word_runs(const std::string& text);

struct WindowOptions {
  Split split = Split::kTest;
  std::int64_t context = 2048;             // tokens, BOS among them where the tokenizer puts one
  std::int64_t continuation = 256;         // tokens of the same text behind them
  std::int64_t longchat = 6, musique = 4;  // windows
};

struct Window {
  std::string id, domain;
  std::int64_t context = 0;
  std::vector<std::int32_t> tokens;  // context and continuation
};

// `folder` holds both files. The same arguments give the same windows. LongChat windows are the
// split's conversations in orders that differ from window to window, none twice in one window;
// MuSiQue windows have no passage in common. Throws kInput when the text is not enough.
std::vector<Window> make_windows(const Tokenizer& tokenizer, const std::string& folder,
                                 const WindowOptions& options);

// One line of JSON: {"id", "domain", "context", "tokens"}, or "text", decoded by `text_of`, instead
// of "tokens".
std::string window_line(const Window& window, const Tokenizer* text_of);

// Windows from lines with tokens. Throws kInput.
std::vector<Window> read_windows(const std::string& path);

}  // namespace kv
