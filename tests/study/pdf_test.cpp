// Plots as PDF: the table of objects is right, and text and lines are all there.

#include "report/pdf.h"

#include <algorithm>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/svg.h"

namespace moe {
namespace {

using testing::HasSubstr;

std::string plot() {
  std::vector<svg::Line> lines;
  for (size_t i = 0; i < svg::kMarks; ++i) {
    const auto y = static_cast<double>(i);
    lines.push_back({.name = "line (" + std::to_string(i) + ")", .points = {{1, y + 2}, {2, y + 1}}, .style = i});
  }
  lines[0].low = {1.9, 0.9};
  lines[0].high = {2.1, 1.1};
  return svg::line_plot("5 < 6 ± 1 & 语", "x", "y", lines);
}

int64_t count(const std::string& text, const std::string& what) {
  int64_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(Pdf, EveryObjectIsWhereTheTableSays) {
  const std::string pdf = pdf_of_svg(plot());
  EXPECT_TRUE(pdf.starts_with("%PDF-1.4\n"));
  EXPECT_TRUE(pdf.ends_with("%%EOF\n"));
  const size_t start = std::stoul(pdf.substr(pdf.find("startxref\n") + 10));
  std::istringstream table(pdf.substr(start));
  std::string word;
  size_t first = 1, objects = 0, offset = 0;
  table >> word >> first >> objects;
  EXPECT_EQ(word, "xref");
  EXPECT_EQ(first, 0u);
  ASSERT_EQ(objects, 7u);
  for (size_t i = 0; i < objects; ++i) {
    std::string generation, kind;
    table >> offset >> generation >> kind;
    if (i > 0) {
      EXPECT_TRUE(pdf.substr(offset).starts_with(std::to_string(i) + " 0 obj\n")) << i;
    }
  }
  const size_t begin = pdf.find("stream\n") + 7, end = pdf.find("endstream");
  EXPECT_THAT(pdf, HasSubstr("/Length " + std::to_string(end - begin) + " "));
}

TEST(Pdf, HoldsEveryLineMarkAndText) {
  const std::string svg = plot(), pdf = pdf_of_svg(svg);
  EXPECT_EQ(count(pdf, " Tj ET\n"), count(svg, "<text"));
  EXPECT_EQ(count(pdf, "S Q\n"), count(svg, "<polyline"));
  EXPECT_EQ(count(pdf, "B Q\n"), count(svg, "<path"));
  EXPECT_EQ(count(pdf, "/Band gs"), 1);
  EXPECT_EQ(count(pdf, "q "), count(pdf, " Q\n")) << "every state that is saved is restored";
  EXPECT_THAT(pdf, HasSubstr("(line \\(3\\))"));
  EXPECT_THAT(pdf, HasSubstr("(5 < 6 \xb1 1 & ?)")) << "in Latin-1";
  for (const char* bad : {"nan", "inf"}) EXPECT_EQ(count(pdf, bad), 0) << bad;
}

TEST(Pdf, TextEndsWhereItsAnchorSays) {
  const std::string pdf =
      pdf_of_svg(svg::document("", 100, svg::text_at(300, 50, "end", "10") + svg::text_at(300, 60, "middle", "10")));
  // Two digits of 0.556 of 12 each: 13.344 wide.
  EXPECT_THAT(pdf, HasSubstr("286.66 50.00 Tm (10)"));
  EXPECT_THAT(pdf, HasSubstr("293.33 60.00 Tm (10)"));
}

}  // namespace
}  // namespace moe
