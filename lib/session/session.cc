#include "kv/session/session.hh"

#include "kv/checkpoint/card.hh"

namespace kv {

Session Session::open(const std::string& name, const ModelOptions& options) {
  Session session;
  session.checkpoint = Checkpoint::open(name);
  session.tokenizer = Tokenizer::open(session.checkpoint->tokenizer_path());
  session.identity = identity_of(*session.checkpoint, session.tokenizer->fingerprint());
  session.model = Model::load(*session.checkpoint, options);
  return session;
}

}  // namespace kv
