#include "report/page.h"

#include <vector>

#include "base/error.h"
#include "report/page_files.h"

namespace moe {
namespace {

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') {
      result += "&lt;";
    } else if (c == '&') {
      result += "&amp;";
    } else {
      result += c;
    }
  }
  return result;
}

/// JSON that cannot end the element it is in: inside strings, where alone it can be, "<" is written as an escape.
std::string script_safe(const Json& data) {
  std::string result;
  for (const char c : json_text(data)) {
    if (c == '<') {
      result += "\\u003c";
    } else {
      result += c;
    }
  }
  return result;
}

std::vector<std::string_view> scripts_of(Page page) {
  if (page == Page::report) {
    return {kChartScript, kCommonScript, kHeatScript, kCurvesScript, kExpertsScript, kCausalScript, kReportScript};
  }
  return {kCommonScript, kTraceScript};
}

std::string element_of_scripts(Page page) {
  std::string text;
  for (const std::string_view script : scripts_of(page)) text += fmt::format("<script>\n{}\n</script>\n", script);
  return text;
}

}  // namespace

void check_page(Page page) {
  if (page == Page::report && kChartScript.empty()) {
    fail(
        "this program was built without Chart.js, which draws the page's curves: `apt-get install libjs-chart.js`, "
        "then "
        "build the program again");
  }
}

std::string html_page(Page page, std::string_view title, const Json& data) {
  check_page(page);
  const std::vector<std::pair<std::string_view, std::string>> places = {{"{{title}}", escaped(title)},
                                                                        {"{{style}}", std::string(kStyleSheet)},
                                                                        {"{{data}}", script_safe(data)},
                                                                        {"{{scripts}}", element_of_scripts(page)}};
  // From place to place, so that what is put in is never searched for places.
  std::string text;
  size_t at = 0;
  for (const auto& [place, content] : places) {
    const size_t found = kFrameHtml.find(place, at);
    MOE_CHECK(found != std::string_view::npos);
    text += kFrameHtml.substr(at, found - at);
    text += content;
    at = found + place.size();
  }
  return text += kFrameHtml.substr(at);
}

}  // namespace moe
