#pragma once
// What kvcat is: its options and its work, for itself and for those that run it in their process.

#include "kv/codec/join.hh"
#include "tool.hh"

namespace kv {

extern const ToolInfo kCatInfo;

struct CatOptions {
  std::vector<std::string> files;
  std::string layers, tokens, members;
  std::optional<int> quality;
  bool join = false, no_history = false;
  OutputOptions output;
};

void declare_cat(CLI::App& app, CatOptions& options);
int cat_body(const CatOptions& options, const Invocation& call);

}  // namespace kv
