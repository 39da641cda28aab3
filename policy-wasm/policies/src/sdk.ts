// The SDK, as every policy has it.
export * from "../../guests/assemblyscript/sdk";
