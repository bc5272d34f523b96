module Sample
greet() = print("hello")
end
