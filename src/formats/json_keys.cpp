#include "formats/json_keys.h"

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"

namespace moe {

JsonWatch refuse_repeated_keys(std::string where) {
  using Event = Json::parse_event_t;
  const auto keys = std::make_shared<std::vector<std::set<std::string>>>();  // of the objects around
  return [keys, where = std::move(where)](Event event, const Json& parsed) {
    if (event == Event::object_start) keys->emplace_back();
    if (event == Event::object_end) keys->pop_back();
    if (event == Event::key && !keys->back().insert(parsed.get<std::string>()).second) {
      fail("{} names {} twice", where, json_shown(parsed));
    }
  };
}

Json read_json_without_repeated_keys(const fs::path& path) {
  const std::string text = read_file(path);
  const Json json = parse_json(text, path.string());  // whose errors give line and column
  Json again;
  find_json_mistake(text, again, refuse_repeated_keys(path.string()));
  return json;
}

}  // namespace moe
