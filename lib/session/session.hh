#pragma once
// A model with all that belongs to it.

#include "kv/container/meta.hh"
#include "kv/model/model.hh"
#include "kv/tokenizer/tokenizer.hh"

#include <memory>
#include <string>

namespace kv {

struct Session {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
  ModelIdentity identity;

  // `name` as in find_model(). Throws what Checkpoint, Tokenizer and Model throw.
  static Session open(const std::string& name, const ModelOptions& options);
};

}  // namespace kv
