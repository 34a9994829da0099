#include "report/pdf.h"

#include <array>
#include <charconv>
#include <cmath>
#include <sstream>
#include <vector>

#include "base/error.h"

namespace moe {
namespace {

constexpr double kTextSize = 12;
// Widths of Helvetica's characters from blank to "~", in thousandths of the size.
constexpr std::array<int, 95> kWidths{278,  278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
                                      556,  556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
                                      1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
                                      667,  778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
                                      333,  556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
                                      556,  556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584};

/// A number of our own SVG.
double number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  MOE_CHECK(error == std::errc() && end != text.data());
  return value;
}

/// An element of the SVG: its name, its attributes as text, and what it holds.
struct Element {
  std::string name, attributes, content;

  std::string get(const std::string& attribute) const {
    const std::string begin = " " + attribute + "=\"";
    const size_t at = attributes.find(begin);
    if (at == std::string::npos) return "";
    const size_t from = at + begin.size();
    return attributes.substr(from, attributes.find('"', from) - from);
  }
  double number(const std::string& attribute) const {
    const std::string text = get(attribute);
    return text.empty() ? 0 : number_of(text);
  }
};

std::vector<Element> elements_of(const std::string& svg) {
  std::vector<Element> elements;
  for (size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    if (svg[at + 1] == '/') continue;
    const size_t end = svg.find('>', at), name_end = svg.find_first_of(" >", at);
    MOE_CHECK(end != std::string::npos);
    Element element{svg.substr(at + 1, name_end - at - 1), svg.substr(name_end, end - name_end), ""};
    if (element.name == "text") element.content = svg.substr(end + 1, svg.find('<', end) - end - 1);
    elements.push_back(std::move(element));
  }
  return elements;
}

/// "#1f6fb4" or "white", as an operator's operands.
std::string colour(const std::string& text) {
  if (text == "white") return "1 1 1";
  MOE_CHECK(text.size() == 7 && text[0] == '#');
  const auto part = [&](size_t at) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 2, value, 16);
    MOE_CHECK(error == std::errc() && end == text.data() + at + 2);
    return value / 255.0;
  };
  return fmt::format("{:.3f} {:.3f} {:.3f}", part(1), part(3), part(5));
}

/// SVG's text in Latin-1: without entities, and with "?" for what Latin-1 lacks.
std::string latin1(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '&') {
      result += text.compare(i, 4, "&lt;") == 0 ? '<' : '&';
      i = text.find(';', i);
    } else if (c < 0x80) {
      result += text[i];
    } else if ((c == 0xc2 || c == 0xc3) && i + 1 < text.size()) {
      result += static_cast<char>(((c & 3) << 6) | (static_cast<unsigned char>(text[++i]) & 0x3f));
    } else {
      result += '?';
      while (i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xc0) == 0x80) ++i;
    }
  }
  return result;
}

double width_of(const std::string& text) {
  int width = 0;
  for (const char c : text) width += c >= ' ' && c <= '~' ? kWidths[static_cast<size_t>(c - ' ')] : 584;
  return kTextSize * width / 1000;
}

std::string text_of(const Element& element) {
  const std::string text = latin1(element.content), anchor = element.get("text-anchor");
  const double part = anchor == "middle" ? 0.5 : anchor == "end" ? 1 : 0;
  std::string escaped;
  for (const char c : text) {
    if (c == '(' || c == ')' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return fmt::format("BT 0 0 0 rg /F {} Tf 1 0 0 -1 {:.2f} {:.2f} Tm ({}) Tj ET\n", kTextSize,
                     element.number("x") - part * width_of(text), element.number("y"), escaped);
}

/// "1,2 3,4" as a path.
std::string points_path(const std::string& points) {
  std::istringstream text(points);
  std::string path;
  double x = 0, y = 0;
  for (char comma = 0; text >> x >> comma >> y;)
    path += fmt::format("{:.2f} {:.2f} {} ", x, y, path.empty() ? "m" : "l");
  return path;
}

/// The path of a mark: M, L, H, V and Z, and A for a whole circle around 0.
std::string mark_path(const std::string& d) {
  std::istringstream text(d);
  std::string path;
  double x = 0, y = 0;
  for (char step = 0; text >> step;) {
    if (step == 'Z') {
      path += "h ";
      continue;
    }
    if (step == 'A') {  // four curves in place of the two arcs, and all that follows
      const double r = std::abs(x), k = 0.5523 * r;
      return fmt::format(
          "{0} 0 m {0} {1} {1} {0} 0 {0} c -{1} {0} -{0} {1} -{0} 0 c -{0} -{1} -{1} -{0} 0 -{0} c {1} -{0} {0} -{1} "
          "{0} 0 "
          "c h ",
          r, k);
    }
    if (step == 'H') {
      text >> x;
    } else if (step == 'V') {
      text >> y;
    } else {
      text >> x >> y;
    }
    path += fmt::format("{} {} {} ", x, y, step == 'M' ? "m" : "l");
  }
  return path;
}

std::string drawn(const Element& element) {
  if (element.name == "text") return text_of(element);
  std::string style;
  const std::string stroke = element.get("stroke"), fill = element.get("fill");
  if (!stroke.empty()) style += fmt::format("{} RG {} w ", colour(stroke), element.number("stroke-width"));
  if (!fill.empty() && fill != "none") style += colour(fill) + " rg ";
  if (element.name == "rect") {
    return fmt::format("{}0 0 {} {} re f\n", style, element.number("width"), element.number("height"));
  }
  if (element.name == "line") {
    return fmt::format("{}{} {} m {} {} l S\n", style, element.number("x1"), element.number("y1"), element.number("x2"),
                       element.number("y2"));
  }
  if (element.name == "polyline") {
    return fmt::format("q {}[{}] 0 d {}S Q\n", style, element.get("stroke-dasharray"),
                       points_path(element.get("points")));
  }
  if (element.name == "polygon")
    return fmt::format("q /Band gs {}{}h f Q\n", style, points_path(element.get("points")));
  if (element.name == "path") {
    const std::string move = element.get("transform");
    return fmt::format("q {}1 0 0 1 {} cm {}B Q\n", style, move.substr(10, move.size() - 11),
                       mark_path(element.get("d")));
  }
  return "";
}

}  // namespace

std::string pdf_of_svg(const std::string& svg) {
  const std::vector<Element> elements = elements_of(svg);
  MOE_CHECK(!elements.empty() && elements.front().name == "svg");
  const double width = elements.front().number("width"), height = elements.front().number("height");
  std::string content = fmt::format("1 0 0 -1 0 {} cm\n", height);  // SVG counts from the top
  for (const Element& element : elements) content += drawn(element);
  const std::array<std::string, 6> objects{
      "<< /Type /Catalog /Pages 2 0 R >>",
      "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
      fmt::format(
          "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {} {}] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> "
          "/ExtGState << /Band 6 0 R >> >> >>",
          width, height),
      fmt::format("<< /Length {} >>\nstream\n{}endstream", content.size(), content),
      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
      "<< /Type /ExtGState /ca 0.18 >>"};
  std::string pdf = "%PDF-1.4\n", table;
  for (size_t i = 0; i < objects.size(); ++i) {
    table += fmt::format("{:010} 00000 n \n", pdf.size());
    pdf += fmt::format("{} 0 obj\n{}\nendobj\n", i + 1, objects[i]);
  }
  const size_t start = pdf.size();
  return pdf + fmt::format(
                   "xref\n0 {0}\n0000000000 65535 f \n{1}trailer\n<< /Size {0} /Root 1 0 R >>\nstartxref\n{2}\n%%EOF\n",
                   objects.size() + 1, table, start);
}

}  // namespace moe
