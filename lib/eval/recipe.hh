#pragma once
// Recipes: fragments of shell between two caches.

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

// What stands between two '|' of a recipe.
struct StageText {
  std::string text;  // as a shell would have it
  // As a shell would part it, where it consists of words and quotes alone; else none. Of variables
  // only those given are known, and only in double quotes.
  std::vector<std::string> words;
};

// Where more than '|' joins commands (";", "&", "||", parentheses, "`"), all of it is one stage
// without words. Throws kUsage: nothing between two '|', a quote that is not closed.
std::vector<StageText> parse_recipe(std::string_view text,
                                    const std::map<std::string, std::string>& variables);

}  // namespace kv
