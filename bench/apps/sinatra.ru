# frozen_string_literal: true

# A typical small application: a Sinatra route with a parameter, answered in JSON.
require "json"
require "sinatra/base"

class Users < Sinatra::Base
  set :environment, :production
  set :logging, false

  get "/users/:id" do
    content_type :json
    id = params["id"].to_i
    JSON.generate(
      id: id,
      name: "User #{id}",
      email: "user#{id}@example.com",
      active: true,
      roles: %w[reader writer],
      friends: Array.new(10) { |i| { id: id + i, name: "Friend #{i}" } }
    )
  end
end

run Users
