// Calls the Claude API with `anthropic-sdk-go` as programs do, and prints what came of each call as JSON.
//
// ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY say where and as whom. Prints {"sync": {call: outcome}}; an outcome has what
// the call returned, or raised, and the requests it made as [method, url, status].
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"
	"github.com/anthropics/anthropic-sdk-go/toolrunner"
)

type object = map[string]any

type call struct {
	name string
	make func() (any, error)
}

// What has the JSON that it was read from.
type raw interface{ RawJSON() string }

// A list with pages, or the lines of a batch's results.
type list[T any] interface {
	Next() bool
	Current() T
	Err() error
}

const model = "claude-sonnet-5-5"

var (
	ctx      = context.Background()
	requests = [][]any{}
	client   = anthropic.NewClient(option.WithMiddleware(written))
	asked    = anthropic.MessageNewParams{
		Model: model, MaxTokens: 2048, Messages: question("What is a façade — in 30 words?"),
	}
	content = bytes.Repeat([]byte("\x00\xff line\r\n"), 1000)
	city    = object{"city": object{"type": "string"}}
	classes = map[int]string{
		400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
		429: "RateLimitError", 500: "InternalServerError", 529: "OverloadedError",
	}
)

// written writes down what is asked.
func written(request *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	response, err := next(request)
	if err == nil {
		requests = append(requests, []any{request.Method, request.URL.String(), response.StatusCode})
	}
	return response, err
}

func question(text string) []anthropic.MessageParam {
	return []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}
}

// plain is the JSON that a value was read from.
func plain(value raw, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return json.RawMessage(value.RawJSON()), nil
}

// every has all items of a list.
func every[T raw](items list[T]) (any, error) {
	found := []any{}
	for items.Next() {
		found = append(found, json.RawMessage(items.Current().RawJSON()))
	}
	return found, items.Err()
}

// streamed reads a stream to its end, or to where it breaks.
func streamed(stream *ssestream.Stream[anthropic.MessageStreamEventUnion]) ([]any, anthropic.Message, error) {
	defer stream.Close()
	events, message := []any{}, anthropic.Message{}
	for stream.Next() {
		events = append(events, json.RawMessage(stream.Current().RawJSON()))
		if err := message.Accumulate(stream.Current()); err != nil {
			return events, message, err
		}
	}
	return events, message, stream.Err()
}

func create() (any, error) {
	brief := asked
	brief.System = []anthropic.TextBlockParam{{Text: "Answer briefly."}}
	return plain(client.Messages.New(ctx, brief))
}

func headers() (any, error) {
	var response *http.Response
	_, err := client.Messages.New(ctx, asked, option.WithResponseInto(&response))
	if err != nil {
		return nil, err
	}
	found := object{}
	for name, values := range response.Header {
		found[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return found, nil
}

func createStream() (any, error) {
	events, _, err := streamed(client.Messages.NewStreaming(ctx, asked))
	return events, err
}

func streamHelper() (any, error) {
	events, message, err := streamed(client.Messages.NewStreaming(ctx, asked))
	return object{"events": events, "message": message}, err
}

func thinking() (any, error) {
	thoughtful := asked
	thoughtful.Thinking = anthropic.ThinkingConfigParamOfEnabled(1024)
	events, _, err := streamed(client.Messages.NewStreaming(ctx, thoughtful))
	return events, err
}

func toolUse() (any, error) {
	schema := anthropic.ToolInputSchemaParam{Properties: city, Required: []string{"city"}}
	turn := asked
	turn.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(schema, "get_weather")}
	turn.Messages = question("What is the weather in Paris?")
	first, err := client.Messages.New(ctx, turn)
	if err != nil {
		return nil, err
	}
	result := anthropic.NewToolResultBlock(first.Content[len(first.Content)-1].ID, "18 °C", false)
	turn.Messages = append(turn.Messages, first.ToParam(), anthropic.NewUserMessage(result))
	second, err := plain(client.Messages.New(ctx, turn))
	return []any{json.RawMessage(first.RawJSON()), second}, err
}

func toolRunner() (any, error) {
	type place struct{ City string }
	schema := anthropic.BetaToolInputSchemaParam{Properties: city, Required: []string{"city"}}
	weather := func(_ context.Context, in place) (anthropic.BetaToolResultBlockParamContentUnion, error) {
		text := &anthropic.BetaTextBlockParam{Text: "18 °C in " + in.City}
		return anthropic.BetaToolResultBlockParamContentUnion{OfText: text}, nil
	}
	tool := toolrunner.NewBetaTool("get_weather", "The weather in a city.", schema, weather)
	params := anthropic.BetaMessageNewParams{
		Model: model, MaxTokens: 2048,
		Messages: []anthropic.BetaMessageParam{anthropic.NewBetaUserMessage(anthropic.NewBetaTextBlock("weather?"))},
	}
	runner := client.Beta.Messages.NewToolRunner(
		[]anthropic.BetaTool{tool}, anthropic.BetaToolRunnerParams{BetaMessageNewParams: params})
	messages := []any{}
	for message, err := range runner.All(ctx) {
		if err != nil {
			return nil, err
		}
		messages = append(messages, json.RawMessage(message.RawJSON()))
	}
	return messages, nil
}

func countTokens() (any, error) {
	params := anthropic.MessageCountTokensParams{Model: model, Messages: asked.Messages}
	return plain(client.Messages.CountTokens(ctx, params))
}

func models() (any, error) {
	all, err := every(client.Models.ListAutoPaging(ctx, anthropic.ModelListParams{Limit: anthropic.Int(5)}))
	if err != nil {
		return nil, err
	}
	one, err := plain(client.Models.Get(ctx, model, anthropic.ModelGetParams{}))
	return []any{all, one}, err
}

func files() (any, error) {
	file := anthropic.File(bytes.NewReader(content), "ünïcode.txt", "text/plain")
	uploaded, err := client.Files.Upload(ctx, anthropic.FileUploadParams{File: file})
	if err != nil {
		return nil, err
	}
	downloaded, err := client.Files.Download(ctx, uploaded.ID, anthropic.FileDownloadParams{})
	if err != nil {
		return nil, err
	}
	defer downloaded.Body.Close()
	data, err := io.ReadAll(downloaded.Body)
	return several(
		func() (any, error) { return plain(uploaded, err) },
		func() (any, error) {
			return plain(client.Files.GetMetadata(ctx, uploaded.ID, anthropic.FileGetMetadataParams{}))
		},
		func() (any, error) {
			return every(client.Files.ListAutoPaging(ctx, anthropic.FileListParams{Limit: anthropic.Int(1)}))
		},
		func() (any, error) { return data, nil },
		func() (any, error) { return plain(client.Files.Delete(ctx, uploaded.ID, anthropic.FileDeleteParams{})) },
	)
}

func batches() (any, error) {
	batches, params := client.Messages.Batches, anthropic.MessageBatchNewParams{}
	for _, name := range []string{"first", "second"} {
		one := anthropic.MessageBatchNewParamsRequest{CustomID: name}
		one.Params = anthropic.MessageBatchNewParamsRequestParams{Model: model, MaxTokens: 2048, Messages: asked.Messages}
		params.Requests = append(params.Requests, one)
	}
	created, err := batches.New(ctx, params)
	if err != nil {
		return nil, err
	}
	return several(
		func() (any, error) { return plain(created, nil) },
		func() (any, error) { return plain(batches.Get(ctx, created.ID, anthropic.MessageBatchGetParams{})) },
		func() (any, error) {
			return every(batches.ResultsStreaming(ctx, created.ID, anthropic.MessageBatchResultsParams{}))
		},
		func() (any, error) {
			canceled, err := batches.New(ctx, params)
			if err != nil {
				return nil, err
			}
			return plain(batches.Cancel(ctx, canceled.ID, anthropic.MessageBatchCancelParams{}))
		},
		func() (any, error) {
			return every(batches.ListAutoPaging(ctx, anthropic.MessageBatchListParams{Limit: anthropic.Int(1)}))
		},
		func() (any, error) {
			return plain(batches.Delete(ctx, created.ID, anthropic.MessageBatchDeleteParams{}))
		},
	)
}

// several makes calls one after the other, up to the first that fails.
func several(calls ...func() (any, error)) (any, error) {
	found := []any{}
	for _, call := range calls {
		value, err := call()
		if err != nil {
			return nil, err
		}
		found = append(found, value)
	}
	return found, nil
}

// broken is a stream that breaks: its events up to there, and the error.
func broken(wish string) func() (any, error) {
	return func() (any, error) {
		events, _, err := streamed(client.Messages.NewStreaming(ctx, asked, simulate(wish)))
		if err != nil {
			return object{"events": events, "raised": raised(err)}, nil
		}
		return object{"events": events}, nil
	}
}

func simulate(wish string) option.RequestOption { return option.WithHeader("x-simulate", wish) }

// sent is a message that is refused.
func sent(options ...option.RequestOption) func() (any, error) {
	return func() (any, error) { return plain(client.Messages.New(ctx, asked, options...)) }
}

func invalidRequest() (any, error) {
	invalid := asked
	invalid.MaxTokens = -1
	return plain(client.Messages.New(ctx, invalid))
}

func noSuchModel() (any, error) {
	return plain(client.Models.Get(ctx, "claude-none", anthropic.ModelGetParams{}))
}

// raised is what a program sees of an error; one of the API has the name that other SDKs give its class.
func raised(err error) object {
	var refusal *anthropic.Error
	if !errors.As(err, &refusal) {
		return object{"class": "error", "message": err.Error(), "type": nil}
	}
	return object{
		"class": classes[refusal.StatusCode], "status_code": refusal.StatusCode, "message": err.Error(),
		"body": refusal.RawJSON(), "request_id": refusal.RequestID, "type": refusal.Type(),
	}
}

func main() {
	calls := []call{
		{"create", create}, {"headers", headers}, {"create stream", createStream}, {"stream helper", streamHelper},
		{"thinking", thinking}, {"tool use", toolUse}, {"tool runner", toolRunner}, {"count tokens", countTokens},
		{"models", models}, {"files", files}, {"batches", batches},
		// After these the ids differ: a proxy may try one request several times.
		{"error mid-stream", broken("error-mid-stream; after-events=5")},
		{"cut stream", broken("cut; after-events=5")},
		{"invalid request", invalidRequest}, {"no such model", noSuchModel},
	}
	for _, status := range []int{400, 403, 404, 500, 529} {
		code := strconv.Itoa(status)
		calls = append(calls, call{"status " + code, sent(option.WithMaxRetries(0), simulate(code))})
	}
	calls = append(calls,
		call{"wrong key", sent(option.WithAPIKey("not-a-key-of-this-proxy"))},
		// After this there may be no account left to ask. Without a proxy, `should-retry` spares the hour's sleep.
		call{"rate limit", sent(simulate("429; retry-after=3600; should-retry=false"))})
	outcomes := map[string]object{}
	for _, call := range calls {
		requests = [][]any{}
		outcome := object{}
		if value, err := call.make(); err != nil {
			outcome["raised"] = raised(err)
		} else {
			outcome["returned"] = value
		}
		outcome["requests"] = requests
		outcomes[call.name] = outcome
	}
	if err := json.NewEncoder(os.Stdout).Encode(object{"sync": outcomes}); err != nil {
		panic(err)
	}
}
