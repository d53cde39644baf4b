# frozen_string_literal: true

# Headers with an underscore in their name, where they are switched on: never in the place of one with a dash (F-18).

RSpec.describe "headers with an underscore" do
  serve_for_all(Asking::APP, lint: true, options: "underscore_headers: true")

  def values(*keys, headers:)
    value_of("env.values_at(*#{keys.inspect})", headers: headers)
  end

  it "reach the application" do
    2.times do
      expect(values("HTTP_API_KEY", "HTTP_X_A_B", headers: "api_key: 1\r\nx_A-b: 2\r\n")).to eq(%w[1 2])
    end
    long = "x_#{"n" * 100}"
    expect(values("HTTP_#{long.upcase}", headers: "#{long}: 1\r\n")).to eq(["1"])
  end

  it "are joined when they repeat" do
    expect(values("HTTP_X_A", headers: "X_A: 1\r\nx_a: 2\r\nX_A: 3\r\n")).to eq(["1, 2, 3"])
  end

  it "F-18: give way to the name with a dash, whichever comes first" do
    ["X_A: evil\r\nX-A: good\r\n", "X-A: good\r\nX_A: evil\r\n", "x_a: evil\r\nX-A: go\r\nX_A: evil\r\nx-a: od\r\n"]
      .zip(["good", "good", "go, od"])
      .each { |headers, expected| expect(values("HTTP_X_A", headers: headers)).to eq([expected]), headers }
    expect(values("HTTP_API_KEY", "HTTP_X_A_B", headers: "Api_Key: evil\r\napi-key: good\r\nX-A-B:\r\nX-A_B: evil\r\n"))
      .to eq(["good", ""])
  end

  it "F-18: never pass for what a proxy or the server says, nor for what frames the body" do
    names = %w[X_Forwarded_For X-Forwarded_Proto x_forwarded_anything X_Real_IP X_Sendfile_Type Content_Length
               content_type Transfer_Encoding X_Accel_Mapping]
    headers = names.map { |name| "#{name}: evil\r\n" }.join
    expect(value_of("env.select { |_, value| value == 'evil' }.keys", headers: headers)).to eq([])
    expect(values("HTTP_PROXY", "HTTP_VERSION", headers: "Proxy: evil\r\nVersion: evil\r\n")).to eq([nil, "HTTP/1.1"])
  end
end
