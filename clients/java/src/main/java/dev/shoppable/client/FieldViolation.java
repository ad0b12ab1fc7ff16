package dev.shoppable.client;

/** One thing that is wrong with a request. */
public record FieldViolation(String field, String description) {}
