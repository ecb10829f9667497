#pragma once
// What kvdecode is: its options and its work, for itself and for those that run it in their
// process.

#include "kv/codec/transcode.hh"
#include "tool.hh"

namespace kv {

extern const ToolInfo kDecodeInfo;

struct DecodeOptions {
  std::string file, layers, tokens, members;
  bool stats = false, no_history = false;
  int threads = 1;
  OutputOptions output;
};

void declare_decode(CLI::App& app, DecodeOptions& options);
int decode_body(const DecodeOptions& options, const Invocation& call);

}  // namespace kv
